"""The tamper-evident log in a database: tables, store, checks, commands, reports."""
