"""`fedforget-site up`: run a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import Folder, clear_errors


def up(
    folder: Folder = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Run the SuperNode and its companion processes, and restart those that fail. SIGTERM stops all (exit code 0)."""
    from client.runtime.up import up as keep_site_up  # noqa: PLC0415 - Flower and the database, for commands that need them
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        keep_site_up(SiteFolder(folder), as_json=as_json)
