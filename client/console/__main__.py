"""Command line of the process: `python -m client.console --dir DIR`."""

from __future__ import annotations

from client.console.service import run
from client.process import main

if __name__ == "__main__":
    main("console", "Serve the console.", run)
