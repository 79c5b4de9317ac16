"""Reading a FHIR server: sign-in, pages, links, and single resources that cannot be handled."""
