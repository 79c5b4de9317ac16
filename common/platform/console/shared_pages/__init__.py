"""Pages that both consoles have: each side gives its values, roles and words."""
