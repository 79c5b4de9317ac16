"""What sites and coordinator share. `errors`, `files`, `settings`, `disk` and `printable` stand below all rooms."""
