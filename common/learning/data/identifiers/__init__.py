"""Identifiers of patients, and identifiers that only look alike."""
