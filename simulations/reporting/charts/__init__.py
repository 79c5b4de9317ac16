"""The report's charts, one file each, and how they are drawn."""
