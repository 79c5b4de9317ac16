"""Command line of the process: `python -m client.consent_service --dir DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from client.consent_service.process import run
from client.settings import SiteFolder
from common import structured_log
from common.errors import FedForgetError


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m client.consent_service", description="Take revocations by gRPC.")
    parser.add_argument("--dir", type=Path, required=True, help="the site's folder")
    folder = SiteFolder(parser.parse_args().dir)
    structured_log.configure()
    try:
        run(folder)
    except FedForgetError as err:
        logging.getLogger("fedforget.consent").error("%s", err)
        sys.exit(err.exit_code)


if __name__ == "__main__":
    main()
