"""The pages of the site's console, a file each."""
