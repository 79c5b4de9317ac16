"""Consents by HL7 FHIR: the endpoint that takes them, and the pull that misses none."""
