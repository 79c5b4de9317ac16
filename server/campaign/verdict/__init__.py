"""Whether a candidate may be published, and which evidence carries the decision."""
