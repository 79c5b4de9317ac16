"""Commands about evidence: the log, verification, the stand-alone verifier, and replay."""
