"""`fedforget-server log`: the coordinator's tamper-evident log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import EvidenceError
from common.terminal import AsJson, Folder, clear_errors, show, sub_app

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from common.event_log import EventLog
    from common.evidence.keys import PublicKey

app = sub_app("The coordinator's log of what happened, which cannot be rewritten unseen.")


@app.command("show", epilog="Example: fedforget-server log show --last 50 --dir federation")
def show_log(
    last: Annotated[int, typer.Option("--last", min=1, help="So many of the newest leaves.")] = 20,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Show the newest leaves, how far hospitals have co-signed, and whose log was refused."""
    from common.log_report import drawn, report  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors(), _opened(folder) as (log, session, key):
        found = report(log, session, key, last)
        show(found, drawn(found), as_json=as_json)


@app.command(epilog="Example: fedforget-server log verify --dir federation")
def verify(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Compare every leaf, checkpoint and event with what was signed; exit code 6 when one differs."""
    from server.event_log import examine  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors(), _opened(folder) as (log, session, key):
        found = [*examine(session, log, key), *(f"{p.origin}: {p.trouble}" for p in log.peers(session) if p.trouble)]
        size = len(log.leaves(session))
        show({"size": size, "problems": found}, "\n".join(found) or f"all {size} leaves hold", as_json=as_json)
        if found:
            raise EvidenceError("the log does not hold: keep the folder as it is, and ask the hospitals for theirs")


@app.command(epilog="Example: fedforget-server log export for-the-auditor --dir federation")
def export(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write the public key, all leaves and the newest checkpoints to a new folder."""
    from common.log_report import export as write  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors(), _opened(folder) as (log, session, key):
        files = write(log, session, key, "server", to)
        show({"folder": str(to), "files": files}, f"{to}: {', '.join(files)}", as_json=as_json)


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[EventLog, Session, PublicKey]]:
    """The log up to now, within a transaction."""
    from common.sql import transaction  # noqa: PLC0415 - torch and the database, for commands that need them
    from server.event_log import follow, server_log  # noqa: PLC0415
    from server.house import open_house  # noqa: PLC0415

    house = open_house(folder)
    key, log = house.signer().key, server_log(house.store.clock)
    follow(house.engine, log, key)
    with transaction(house.engine) as session:
        yield log, session, key.public
