"""How the processes start that `fedforget-site up` keeps alive: one argument, a structured log, an exit code."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from client.settings import SiteFolder
from common.errors import FedForgetError
from common.platform.processes import structured_log


def main(name: str, purpose: str, run: Callable[[SiteFolder], None]) -> None:
    """`python -m client.NAME --dir DIR`: do `run` for a site's folder; what it raises of ours is logged in a line."""
    parser = argparse.ArgumentParser(prog=f"python -m client.{name}", description=purpose)
    parser.add_argument("--dir", type=Path, required=True, help="the site's folder")
    folder = SiteFolder(parser.parse_args().dir.resolve())
    structured_log.configure()

    try:
        run(folder)
    except FedForgetError as err:
        logging.getLogger(f"fedforget.{name}").error("%s", err)
        sys.exit(err.exit_code)
