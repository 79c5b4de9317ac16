"""What a consent that came by FHIR leads to: an answer, a revocation, or a hold until a person decides."""
