"""Outcomes of a campaign, the grounds that each rests on, and how both are put into words."""
