"""What the commands about revocations share: the open ledger, the acting person, dates."""

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

Who = Annotated[str | None, typer.Option("--steward", help="Your name, for the record.", show_default="the login name")]


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """The ledger of the site in `folder`; raises like `open_ledger`, or `InputError` if it does not exist."""
    from client.revocations.opening import open_ledger  # noqa: PLC0415 - the database
    from client.settings import SiteFolder  # noqa: PLC0415

    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), remedy="check --dir, or run fedforget-site init")
    with open_ledger(SiteFolder(folder)) as ledger:
        yield ledger


def acting(steward: str | None) -> Actor:
    """The acting person: the name as given, else the login name, with the login that the operating system reports."""
    from common.platform.actor import Actor  # noqa: PLC0415 - small, with what follows
    from common.platform.login import login, login_name  # noqa: PLC0415

    return Actor(login_name() if steward is None else steward, login())


def signing_as(
    ledger: Ledger, actor: Actor, what: str, receipt: str, key: Path, passphrase_file: Path | None
) -> tuple[Actor, str]:
    """Sign a decision with a steward's key; return the actor, bound to that key, and the signed envelope."""
    from client.membership.steward import open_key, sign_decision  # noqa: PLC0415 - cryptography, for commands that need it
    from common.platform.keys.passphrase import ask_passphrase  # noqa: PLC0415

    signer = open_key(ledger.folder, key, ask_passphrase(passphrase_file, "the steward's key"))

    return sign_decision(actor, what, receipt, ledger.clock(), signer)


def say_if_down(folder: Path, *, as_json: bool) -> None:
    """Warn on standard error if no `up` is running that could tell the coordinator."""
    from client.settings import CONFIG_FILE  # noqa: PLC0415 - as above
    from common.platform.processes.up_lock import is_up, start_command  # noqa: PLC0415

    if not as_json and (folder / CONFIG_FILE).exists() and not is_up(folder):
        advice = start_command("site", folder)
        typer.echo(f"`up` is not running here; the coordinator is told once it runs: {advice}", err=True)


def moment(text: str, option: str) -> datetime:
    """Parse a date, or a date and time; a plain date means 00:00 UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("not a date", where=option, remedy="write it like 2026-03-01") from None

    return value if value.tzinfo else value.replace(tzinfo=UTC)
