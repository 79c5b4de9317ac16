"""A file for those who help with a problem: what is needed to find it, nothing that names a person or opens a door."""
