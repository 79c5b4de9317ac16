"""One run of a campaign: its steps to the end, failed tries, publication, hospitals set aside."""
