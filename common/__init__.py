"""Code shared by sites and coordinator. All packages may import `errors`, `files`, `settings`, `disk`, `printable`."""
