"""What the commands about revocations share: the open ledger, who acts, moments."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InputError

if TYPE_CHECKING:
    from client.consent.ledger import Ledger

Who = Annotated[str | None, typer.Option("--steward", help="Who does this.  [default: the login name]")]


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """The ledger of the site in `folder`; raises as `open_ledger`, or an `InputError` where there is no such folder."""
    from client.consent.opening import open_ledger  # noqa: PLC0415 - the database
    from client.settings import SiteFolder  # noqa: PLC0415

    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), remedy="check --dir, or fedforget-site init")
    with open_ledger(SiteFolder(folder)) as ledger:
        yield ledger


def acting(steward: str | None) -> str:
    """Who acts: as given, else the login name."""
    if steward is not None:
        return steward
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def moment(text: str, option: str) -> datetime:
    """A date or a moment; a plain date begins at 00:00 UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("not a date", where=option, remedy="write it as 2026-03-01") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
