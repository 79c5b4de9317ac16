"""From files in a hospital to batches of tensors: readers, cache, tokens, noise, splits."""
