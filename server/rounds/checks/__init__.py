"""Checks of the sites' replies and of a new model: the update gate, the utility test, the veto."""
