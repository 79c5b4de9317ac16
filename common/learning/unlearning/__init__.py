"""Unlearning methods, one file each, behind the interface in `base.py`."""
