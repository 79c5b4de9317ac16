"""Hospitals of the federation: enrolment, registered counts, keys, conduct, the coordination service."""
