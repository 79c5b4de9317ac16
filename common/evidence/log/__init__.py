"""The Merkle log: tree, checkpoints, bundles, opened leaves, and the verifier's findings about them."""
