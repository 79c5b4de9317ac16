"""The letter to a patient who has revoked: what was done, what remains, whom to ask, how to check."""
