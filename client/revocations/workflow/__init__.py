"""What happens to a revocation after it is recorded: the steps, and who takes them."""
