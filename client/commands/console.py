"""`fedforget-site console`: the first account of the console, and a certificate for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import ConfigError, InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show, sub_app

app = sub_app("Prepare the console for browsers; `up` runs it where [console] is enabled.")

_ROLES = ("steward", "approver", "auditor", "it")


@app.command(epilog="Example: fedforget-site console token --role it --dir hospital")
def token(
    role: Annotated[list[str], typer.Option("--role", help="Role: steward, approver, auditor or it; may be repeated.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Print a one-time token with which somebody makes an account at the console. It ends after two days."""
    from datetime import UTC, datetime  # noqa: PLC0415 - with what follows, for this command alone
    from importlib.util import find_spec  # noqa: PLC0415

    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        settings = place.settings()
        if not settings.console.local_accounts:
            remedy = "the identity provider gives roles: see console.openid.groups"
            raise ConfigError("local_accounts is off", where=str(place.settings_file), remedy=remedy)
        if unknown := sorted(set(role) - {*_ROLES}):
            raise InputError(f"no such role: {unknown[0]}", where="--role", remedy=f"one of {', '.join(_ROLES)}")
        if find_spec("argon2") is None:
            raise InputError("the console's parts are not installed", remedy="pip install 'fedforget[console]'")

        from common.platform.console.process import public_url  # noqa: PLC0415
        from common.platform.console.sign_in.accounts import open_accounts  # noqa: PLC0415

        with open_accounts(place.console, f"local:{settings.name}") as accounts:
            one_time = accounts.invite(role, datetime.now(UTC))

        address = f"{public_url(settings.console)}/sign-in/setup"
        human = f"{one_time}\n\nOpen {address} and give it there. It counts once, for two days."
        show({"token": one_time, "address": address, "roles": sorted(role)}, human, as_json=as_json)
