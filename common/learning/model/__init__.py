"""The image-text model, its encoders, its loss and its checkpoints."""
