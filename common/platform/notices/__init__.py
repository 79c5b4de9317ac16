"""Notices: a daily digest and an escalation before a due date, by mail and webhook; counts and receipts only."""
