"""`fedforget-site doctor`: check the installation of a site."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from common.errors import ExitCode
from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def doctor(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Check for the problems that occur in practice and say how to fix them. Exit with code 1 if a check fails."""
    from client.runtime.doctor import examine  # noqa: PLC0415 - Flower and the database, for commands that need them
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.platform.checks import as_rows, as_table, failed  # noqa: PLC0415

    with clear_errors():
        rows = examine(SiteFolder(folder), datetime.now(UTC))
        show(as_rows(rows), as_table(rows), as_json=as_json)
        if failed(rows):
            raise typer.Exit(ExitCode.FAILED)
