"""Identifiers that look like one we have: on hold until a person says who is meant."""
