"""Consents and revocations at a hospital: the rule, the ledger, the ways in."""
