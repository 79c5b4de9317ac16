"""`fedforget-site doctor` and `support-bundle`: check the installation of a site, and have others look at it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ExitCode
from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def doctor(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Check for common problems, and say how to fix them. Exits with 1 if a check fails."""
    from client.runtime.doctor import examine  # noqa: PLC0415 - Flower and the database, for commands that need them
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.platform.checks import as_rows, as_table, failed  # noqa: PLC0415

    with clear_errors():
        rows = examine(SiteFolder(folder), datetime.now(UTC))
        show(as_rows(rows), as_table(rows), as_json=as_json)
        if failed(rows):
            raise typer.Exit(ExitCode.FAILED)


def support_bundle(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="ZIP file to write.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write one file for those who help with a problem; it holds no identifier, name, path, address or key."""
    from client.runtime.support import site_bundle  # noqa: PLC0415 - as above
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        parts = site_bundle(SiteFolder(folder), out, datetime.now(UTC))
        show({"file": str(out), "parts": parts}, f"wrote {out}; read it before you send it", as_json=as_json)
