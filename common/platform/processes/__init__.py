"""Supervised processes: guard, logs, probes, monitoring, signs of life."""
