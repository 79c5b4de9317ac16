"""`fedforget-sim compare`: methods, aggregations, sizes of the forget set and seeds, side by side."""
