"""The Merkle log: tree, checkpoints, bundles, opened leaves, and what a verifier finds."""
