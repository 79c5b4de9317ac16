"""Commands of `fedforget-server`, one file for each group; `server/cli.py` puts them together."""
