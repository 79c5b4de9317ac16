"""Consents that were received: by version, by name of the patient, and those that say nothing."""
