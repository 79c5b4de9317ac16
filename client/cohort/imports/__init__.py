"""A folder of studies becomes the site's data: the import, its sources, and counts of what was imported."""
