"""Entry point of the processes that `fedforget-site up` runs: one argument, a structured log, an exit code."""

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
    """`python -m client.NAME --dir DIR`: call `run` with a site's folder. FedForget's errors are logged as one line."""
    parser = argparse.ArgumentParser(prog=f"python -m client.{name}", description=purpose)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the site")
    folder = SiteFolder(parser.parse_args().dir.resolve())
    structured_log.configure()

    try:
        run(folder)
    except FedForgetError as err:
        logging.getLogger(f"fedforget.{name}").error("%s", err)
        sys.exit(err.exit_code)
