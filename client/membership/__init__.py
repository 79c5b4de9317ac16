"""Membership in the federation: set-up, enrolment, trust, bounds, approval, the steward's key."""
