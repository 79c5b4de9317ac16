"""Qualification: rehearsals in waves, what was fixed beforehand, and what a real campaign may rest on."""
