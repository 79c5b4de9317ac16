"""Commands about patients' rights: revoke, approve, readmit, leave, letters, and the steward's decisions."""
