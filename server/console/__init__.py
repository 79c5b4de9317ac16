"""The coordinator's console: what a person who runs a federation looks at. No page can name a patient."""
