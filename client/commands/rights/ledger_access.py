"""What the commands about revocations share: the open ledger, who acts, moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InputError

if TYPE_CHECKING:
    from client.revocations.ledger import Ledger
    from common.platform.actor import Actor

Who = Annotated[str | None, typer.Option("--steward", help="Who does this.  [default: the login name]")]


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """The ledger of the site in `folder`; raises as `open_ledger`, or an `InputError` where there is no such folder."""
    from client.revocations.opening import open_ledger  # noqa: PLC0415 - the database
    from client.settings import SiteFolder  # noqa: PLC0415

    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), remedy="check --dir, or fedforget-site init")
    with open_ledger(SiteFolder(folder)) as ledger:
        yield ledger


def acting(steward: str | None) -> Actor:
    """Who acts: the name as given, else the login name; bound to the login that the operating system knows."""
    from common.platform.actor import Actor  # noqa: PLC0415 - small, with what follows
    from common.platform.login import login, login_name  # noqa: PLC0415

    return Actor(login_name() if steward is None else steward, login())


def signing_as(
    ledger: Ledger, actor: Actor, what: str, receipt: str, key: Path, passphrase_file: Path | None
) -> tuple[Actor, str]:
    """Somebody who signs a decision with a steward's key, bound to it too, and the envelope with the signature."""
    from client.membership.steward import open_key, sign_decision  # noqa: PLC0415 - cryptography, for commands that need it
    from common.platform.keys.passphrase import ask_passphrase  # noqa: PLC0415

    signer = open_key(ledger.folder, key, ask_passphrase(passphrase_file, "the steward's key"))

    return sign_decision(actor, what, receipt, ledger.clock(), signer)


def say_if_down(folder: Path, *, as_json: bool) -> None:
    """For people, one line on standard error where no `up` runs that could tell the coordinator."""
    from client.settings import CONFIG_FILE  # noqa: PLC0415 - as above
    from common.platform.processes.up_lock import is_up, start_command  # noqa: PLC0415

    if not as_json and (folder / CONFIG_FILE).exists() and not is_up(folder):
        advice = start_command("site", folder)
        typer.echo(f"no `up` runs here: the coordinator hears of this once one does: {advice}", err=True)


def moment(text: str, option: str) -> datetime:
    """A date or a moment; a plain date begins at 00:00 UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("not a date", where=option, remedy="write it as 2026-03-01") from None

    return found if found.tzinfo else found.replace(tzinfo=UTC)
