"""The ledger's tables, and the reading and adding of their rows."""
