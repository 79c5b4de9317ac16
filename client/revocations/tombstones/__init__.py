"""Tombstones outlive a restored database: their file, who watches it, and the cohort they stop."""
