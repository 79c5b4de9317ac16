"""The console of a hospital: what the data steward, the approver, the auditor and IT work with in a browser."""
