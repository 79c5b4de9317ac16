"""Fold models: who is left out of which, and what they say about patients whom they never saw."""
