"""Reports about revocations: the record, exports, summaries, reminders, audit events and the letter."""
