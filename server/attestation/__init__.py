"""What is attested of a campaign, who signs it, and the coordinator's log."""
