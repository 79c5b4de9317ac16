"""Signed statements and the tamper-evident log, and how anyone verifies them offline."""
