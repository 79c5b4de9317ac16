"""The dossier for a regulator: one archive with a readable PDF, signed statements, and what checks them."""
