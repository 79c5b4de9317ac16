"""Identifiers that resemble a known one: on hold until a person says who is meant."""
