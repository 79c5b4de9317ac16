"""Terminal output: tables, progress, escaped text."""
