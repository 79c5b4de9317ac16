"""Informing other hospitals about a patient who is known at both, without naming anybody."""
