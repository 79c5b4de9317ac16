"""Scores of the site's studies: by the current model, by fold models, and those kept for reference."""
