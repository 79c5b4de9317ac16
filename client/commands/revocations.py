"""`fedforget-site revoke` and `fedforget-site revocations`: an identifier never stands on a command line."""

from __future__ import annotations

import getpass
import secrets
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from client.consent.revocation import OPEN, Request, Scope, Source, Standing, State
from client.settings import SiteFolder
from common.data.manifest import one_a_line, read_patient_list
from common.errors import InputError
from common.terminal import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app

revocations = sub_app("Revocations of this site: numbers and dates, never identities.")


def revoke(
    folder: Folder = Path(),
    patient_file: Annotated[
        Path | None, typer.Option("--patient-file", help="One id a line, or a CSV with a column patient_id.")
    ] = None,
    received: Annotated[
        str | None, typer.Option("--received", help="Day or moment it came in, as 2026-03-01; now without it.")
    ] = None,
    scope: Annotated[
        Scope, typer.Option("--scope", help="What must be forgotten; with any of them all use stops.")
    ] = "all",
    as_json: AsJson = False,
) -> None:
    """Record that patients have revoked: from now on nothing is trained on them, and the model is to forget them.

    Without --patient-file the ids are asked for, unseen, on a terminal; otherwise they are read from standard input.
    """
    from client.consent.opening import open_ledger  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors():
        now, number = datetime.now(UTC), secrets.token_hex(8)
        patients = read_patient_list(patient_file) if patient_file else _from_input()
        request = Request(Source("cli", number), number, _moment(received, now) if received else now, scope)
        with open_ledger(SiteFolder(folder)) as ledger:
            receipt = ledger.record(request, patients)
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
        rows = _receipts(_standing(folder), datetime.now(UTC))
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
        rows = _receipts(_standing(folder, receipt), datetime.now(UTC))
        if not rows:
            raise InputError("no such receipt", where=str(folder), remedy="see fedforget-site revocations list")
        show(rows[0], fields_table(rows[0]), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add both to the command line of a site."""
    app.command(epilog="Example: fedforget-site revoke --patient-file revoked.txt --dir north")(revoke)
    app.add_typer(revocations, name="revocations")


def _standing(folder: Path, receipt: str | None = None) -> tuple[Standing, ...]:
    from client.consent.opening import open_ledger  # noqa: PLC0415 - the database, for commands that need it

    with open_ledger(SiteFolder(folder)) as ledger:
        return ledger.standing(receipt)


def _receipts(found: Sequence[Standing], now: datetime) -> list[dict[str, Any]]:
    by_receipt: dict[str, list[Standing]] = defaultdict(list)
    for standing in found:
        by_receipt[standing.receipt].append(standing)
    rows = [_row(receipt, entries, now) for receipt, entries in by_receipt.items()]
    return sorted(rows, key=lambda row: (row["due"], row["receipt"]))


def _row(receipt: str, entries: list[Standing], now: datetime) -> dict[str, Any]:
    states = [entry.state for entry in entries]
    is_open = any(state in OPEN for state in states)
    closed = [entry.closed for entry in entries if entry.closed is not None]
    due = min(entry.due for entry in entries)
    return {
        "receipt": receipt,
        "patients": len(entries),
        "pending": sum(state in OPEN for state in states),
        "unlearned": states.count(State.UNLEARNED) + states.count(State.RETRAINED),
        "untrained": states.count(State.EXCLUDED) + states.count(State.EVALUATION_ONLY),
        "received": min(entry.received for entry in entries),
        "due": due,
        "days_left": round((due - now).total_seconds() / 86400, 1) if is_open else None,
        "closed": max(closed) if closed and not is_open else None,
        "states": {str(state): states.count(state) for state in State if state in states},
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
