"""`fedforget-site revoke` and `fedforget-site revocations`: an identifier never stands on a command line."""

from __future__ import annotations

import getpass
import secrets
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from client.revocations import Revocation, Revocations, Scope, read_revocations, record_revocations
from client.settings import CONFIG_FILE, SiteFolder
from common.data.manifest import one_a_line, read_patient_list
from common.errors import InputError
from common.terminal import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app

DAYS_TO_ANSWER = 30.0
"""Where there is no `site.toml`, as in a simulated site."""

revocations = sub_app("Revocations of this site: numbers and dates, never identities.")


def revoke(
    folder: Folder = Path(),
    patient_file: Annotated[
        Path | None, typer.Option("--patient-file", help="One id a line, or a CSV with a column patient_id.")
    ] = None,
    received: Annotated[
        str | None, typer.Option("--received", help="Day or moment it came in, as 2026-03-01; now without it.")
    ] = None,
    scope: Annotated[Scope, typer.Option("--scope", help="What is revoked: all use of the data.")] = "all",
    as_json: AsJson = False,
) -> None:
    """Record that patients have revoked: from now on nothing is trained on them, and the model is to forget them.

    Without --patient-file the ids are asked for, unseen, on a terminal; otherwise they are read from standard input.
    """
    with clear_errors():
        now = datetime.now(UTC)
        receipt = record_revocations(
            folder,
            read_patient_list(patient_file) if patient_file else _from_input(),
            receipt=secrets.token_hex(8),
            received=_moment(received, now) if received else now,
            days_to_answer=_days_to_answer(folder),
            scope=scope,
        )
        fields = {
            "receipt": receipt.receipt,
            "patients": receipt.patients,
            "revoked_before": receipt.earlier,
            "received": receipt.received,
            "due": receipt.due,
            "recorded": now,
        }
        show(fields, fields_table(fields), as_json=as_json)


@revocations.command("list", epilog="Example: fedforget-site revocations list --dir north")
def list_(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Receipts with their state and the days that are left."""
    with clear_errors():
        rows = _receipts(read_revocations(folder), datetime.now(UTC))
        columns = ("receipt", "patients", "pending", "received", "due", "days_left")
        show(rows, rows_table(columns, [[row[c] for c in columns] for row in rows]), as_json=as_json)


@revocations.command("show", epilog="Example: fedforget-site revocations show 6f1e0c5ab2d94e37 --dir north")
def show_(
    receipt: Annotated[str, typer.Argument(help="As `revoke` printed it.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """One receipt."""
    with clear_errors():
        rows = [row for row in _receipts(read_revocations(folder), datetime.now(UTC)) if row["receipt"] == receipt]
        if not rows:
            raise InputError("no such receipt", where=str(folder), remedy="see fedforget-site revocations list")
        show(rows[0], fields_table(rows[0]), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add both to the command line of a site."""
    app.command(epilog="Example: fedforget-site revoke --patient-file revoked.txt --dir north")(revoke)
    app.add_typer(revocations, name="revocations")


def _receipts(found: Revocations, now: datetime) -> list[dict[str, Any]]:
    by_receipt: dict[str, list[Revocation]] = defaultdict(list)
    for entry in found.patients.values():
        by_receipt[entry.receipt].append(entry)
    rows = [_row(receipt, entries, now) for receipt, entries in by_receipt.items()]
    return sorted(rows, key=lambda row: (row["due"], row["receipt"]))


def _row(receipt: str, entries: list[Revocation], now: datetime) -> dict[str, Any]:
    states = [entry.state for entry in entries]
    due, pending = min(entry.due for entry in entries), states.count("pending")
    closed = [entry.closed for entry in entries if entry.closed is not None]
    return {
        "receipt": receipt,
        "patients": len(entries),
        "pending": pending,
        "unlearned": states.count("unlearned"),
        "untrained": states.count("untrained"),
        "received": min(entry.received for entry in entries),
        "due": due,
        "days_left": round((due - now).total_seconds() / 86400, 1) if pending else None,
        "closed": max(closed) if closed and not pending else None,
    }


def _from_input() -> tuple[str, ...]:
    """Ids from standard input, or typed without being shown."""
    if not sys.stdin.isatty():
        return one_a_line("standard input", sys.stdin.read().splitlines())
    lines = []
    while line := getpass.getpass("patient id (not shown; empty to end): "):
        lines.append(line)
    return one_a_line("the ids typed", lines)


def _moment(text: str, now: datetime) -> datetime:
    """A date or moment that is not in the future; a plain date begins at 00:00 UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("not a date", where="--received", remedy="write it as 2026-03-01") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found > now:
        raise InputError("lies in the future", where="--received", remedy="give the day on which it came in")
    return found


def _days_to_answer(folder: Path) -> float:
    settings = SiteFolder(folder).settings() if (folder / CONFIG_FILE).exists() else None
    return (settings.days_to_answer if settings else None) or DAYS_TO_ANSWER
