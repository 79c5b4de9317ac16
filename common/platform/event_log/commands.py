"""`log show|verify|export` of both sides: the part that reads an open log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import EvidenceError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show, sub_app

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from common.evidence.keys import PublicKey
    from common.platform.event_log.store import EventLog

OpenLog = tuple["EventLog", "Session", "PublicKey"]


@dataclass(frozen=True, slots=True)
class Side:
    """The log of one side.

    Attributes:
        owner: `site` or `server`, for the program and the file with the public key.
        folder: name of the folder in the examples.
        about: describes the log, for help.
        content: describes what `show` shows, for help.
        subject: describes what `verify` compares, for help.
        advice: what to do if the log does not hold.
        open_log: opens the log of a folder, up to date, within a read-only session.
        problems: lists what does not hold.
    """

    owner: str
    folder: str
    about: str
    content: str
    subject: str
    advice: str
    open_log: Callable[[Path], AbstractContextManager[OpenLog]]
    problems: Callable[[EventLog, Session, PublicKey], list[str]]


def log_commands(side: Side) -> typer.Typer:
    """The commands, for a side to add its own to."""
    app = sub_app(side.about)

    def example(command: str) -> str:
        return f"Example: fedforget-{side.owner} log {command} --dir {side.folder}"

    @app.command("show", help=f"Show {side.content}.", epilog=example("show --last 50"))
    def show_log(
        last: Annotated[int, typer.Option("--last", min=1, help="Number of newest leaves to show.")] = 20,
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        from common.platform.event_log.report import drawn, report  # noqa: PLC0415 - the database, for commands that need it

        with clear_errors(), side.open_log(folder) as (log, session, key):
            summary = report(log, session, key, last)
            show(summary, drawn(summary), as_json=as_json)

    @app.command(
        help=f"Compare {side.subject} with what was signed. Exits with 6 if anything differs.",
        epilog=example("verify"),
    )
    def verify(folder: Folder = Path("."), as_json: AsJson = False) -> None:
        with clear_errors(), side.open_log(folder) as (log, session, key):
            refusals = [f"{peer.origin}: {peer.trouble}" for peer in log.peers(session) if peer.trouble]
            problems = [*side.problems(log, session, key), *refusals]
            size = len(log.leaves(session))
            show(
                {"size": size, "problems": problems}, "\n".join(problems) or f"all {size} leaves hold", as_json=as_json
            )
            if problems:
                raise EvidenceError(f"the log does not hold: keep the folder as it is, and {side.advice}")

    @app.command(
        help="Write the public key, the key history, all leaves and the newest checkpoints to a new folder.",
        epilog=example("export for-the-auditor"),
    )
    def export(
        to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        from common.platform.event_log.report import export as write  # noqa: PLC0415 - the database, for commands that need it

        with clear_errors(), side.open_log(folder) as (log, session, key):
            files = write(log, session, key, side.owner, to)
            show({"folder": str(to), "files": files}, f"{to}: {', '.join(files)}", as_json=as_json)

    return app
