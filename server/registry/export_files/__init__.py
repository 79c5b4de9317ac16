"""Files that `models export` puts beside the weights; each runs there without FedForget and imports nothing of it."""
