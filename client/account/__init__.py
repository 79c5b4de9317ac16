"""What is told about a revocation: its record, exports, summaries, reminders, audit events, and the letter."""
