"""Shadow models, and the attacks that need them."""
