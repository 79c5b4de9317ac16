"""The endpoint that takes Consents from the hospital's own systems, and what it answers."""
