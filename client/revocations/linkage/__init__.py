"""Telling other hospitals of a patient who is known at both, without naming anybody."""
