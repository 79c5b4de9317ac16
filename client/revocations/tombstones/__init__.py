"""Tombstones, which survive the restore of a database: their file, its watch, and the cohort they stop."""
