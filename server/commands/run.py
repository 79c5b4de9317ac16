"""`fedforget-server up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import Folder, clear_errors


def up(
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="PROCESS",
            help="Run one process: superlink, superexec, gateway, coordinator, console or notices.",
            show_default=False,
        ),
    ] = None,
    folder: Folder = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Run the SuperLink, the gateway and the coordinator, and restart them if they fail. SIGTERM stops them."""
    from server.runtime.up import up as keep_server_up  # noqa: PLC0415 - Flower and the database, for commands that need them
    from server.settings import ServerFolder  # noqa: PLC0415

    with clear_errors():
        keep_server_up(ServerFolder(folder), only=only, as_json=as_json)
