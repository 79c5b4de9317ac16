"""`fedforget-server console`: the first account of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, Folder, clear_errors, sub_app

app = sub_app("Invite people to the browser console. `up` runs the console if `console.enabled` is set.")

_ROLES = ("operator", "auditor")


@app.command(epilog="Example: fedforget-server console token --role operator --dir federation")
def token(
    role: Annotated[list[str], typer.Option("--role", help="Role: operator or auditor; may be repeated.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Print a one-time token for creating an account at the console. It expires after two days."""
    from common.platform.console.invite import print_token  # noqa: PLC0415 - with what follows, for this command alone
    from server.settings import CONSOLE_ISSUER, ServerFolder  # noqa: PLC0415

    with clear_errors():
        place = ServerFolder(folder)
        print_token(place.settings().console, place.console, CONSOLE_ISSUER, _ROLES, role, as_json=as_json)
