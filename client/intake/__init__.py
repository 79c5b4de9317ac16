"""Interfaces for revocations and consents: the office, the watched folder, FHIR and gRPC."""
