"""`fedforget-site console`: the first account of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, Folder, clear_errors, sub_app

app = sub_app("Invite people to the browser console. `up` runs the console if `console.enabled` is set.")

_ROLES = ("steward", "approver", "auditor", "it")


@app.command(epilog="Example: fedforget-site console token --role it --dir hospital")
def token(
    role: Annotated[list[str], typer.Option("--role", help="Role: steward, approver, auditor or it; may be repeated.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Print a one-time token for creating an account at the console. It expires after two days."""
    from client.settings import SiteFolder  # noqa: PLC0415 - with what follows, for this command alone
    from common.platform.console.invite import print_token  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        settings = place.settings()
        print_token(settings.console, place.console, f"local:{settings.name}", _ROLES, role, as_json=as_json)
