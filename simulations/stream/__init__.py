"""`fedforget-sim stream`: revocations over simulated months, a campaign for each batch, and what is left of it all."""
