"""The ledger of revocations: tables, transitions, workflow, vault, access for campaigns."""
