"""Command line of the process: `python -m server.console --dir DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from common.errors import FedForgetError
from common.platform.console.hidden import hide
from common.platform.processes import structured_log
from server.console.keys import keys_of
from server.settings import ServerFolder


def run(folder: ServerFolder) -> None:
    """Hide the keys, then serve: a namespace is for a process of one thread, and imports start further ones."""
    hide(keys_of(folder))

    from server.console.service import run as serve  # noqa: PLC0415 - as said above

    serve(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m server.console", description="Serve the console.")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the coordinator")
    folder = ServerFolder(parser.parse_args().dir.resolve())
    structured_log.configure()

    try:
        run(folder)
    except FedForgetError as err:
        logging.getLogger("fedforget.console").error("%s", err)
        sys.exit(err.exit_code)
