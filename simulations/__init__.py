"""Federations on one machine: made-up hospitals, experiments, reports."""
