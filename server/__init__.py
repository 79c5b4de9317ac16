"""The coordinator of a federation: rounds, campaigns, aggregation."""
