"""Encrypted backups of a folder, their restoration and the drill."""
