"""One hospital: its data, its consents, and the Flower ClientApp that acts on them."""
