"""The site as a member of the federation: set-up, enrolment, trust, bounds, approval, the steward's key."""
