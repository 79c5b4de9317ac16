"""Command line of the process: `python -m client.console --dir DIR`."""

from __future__ import annotations

from client.console.keys import keys_of
from client.process import main
from client.settings import SiteFolder
from common.platform.console.hidden import hide


def run(folder: SiteFolder) -> None:
    """Hide the keys, then serve: a namespace is for a process of one thread, and imports start further ones."""
    hide(keys_of(folder))

    from client.console.service import run as serve  # noqa: PLC0415 - as said above

    serve(folder)


if __name__ == "__main__":
    main("console", "Serve the console.", run)
