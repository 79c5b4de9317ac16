"""A rogue hospital, for tests: what it may answer, and a grid on which it answers."""
