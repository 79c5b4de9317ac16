"""Foundations of the processes: databases, checks, settings files, actors."""
