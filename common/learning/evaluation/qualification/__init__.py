"""Qualification of the procedure by rehearsals: what is compared, judged, and checked for a real campaign."""
