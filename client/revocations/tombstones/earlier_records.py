"""Records from before the ledger: `revocations.json`, and cohorts with the patients' own identifiers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import func, select, update

from client.database import MemberRow
from client.revocations.deadline import first_due
from client.revocations.ledger import SOFTWARE, Ledger, Writing
from client.revocations.revocation import Event, Request, Source, State
from client.revocations.rows.ledger_rows import add_events, add_revocations, of_patients
from client.revocations.tombstones.tombstone import stop
from client.revocations.workflow.transitions import check_transition, classified
from common.errors import CohortError
from common.files import sync_folder
from common.learning.records import Subset

REVOCATIONS_FILE = "revocations.json"
_PSEUDONYM_LENGTH = 64
_NOT_RECORDED = "not-recorded"


class _Revocation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    state: Literal["pending", "unlearned", "untrained"]
    receipt: str
    received: AwareDatetime
    due: AwareDatetime
    scope: Literal["all"] = "all"
    closed: AwareDatetime | None = None


class _Revocations(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Literal[2]
    patients: dict[str, _Revocation] = {}


class _WithoutDates(BaseModel):
    model_config = ConfigDict(extra="forbid")
    states: dict[str, Literal["pending", "unlearned"]]


def take_over(ledger: Ledger) -> None:
    """Import `revocations.json` into the ledger, then delete the file.

    Raises:
        CohortError: the file is damaged; nothing is recorded.
    """
    path = ledger.folder.root / REVOCATIONS_FILE
    if not path.exists():
        return
    with ledger.writing() as writing:
        if path.exists():  # another process may have imported it meanwhile
            _insert(ledger, writing, _read(path))

    # After the commit: if the process is killed in between, the next start finds these patients in the ledger.
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename_members(ledger: Ledger) -> None:
    """Replace identifiers by pseudonyms in the site's record of participation."""
    with ledger.writing() as writing:
        # A pseudonym has 64 characters. Anything of another length is an identifier that an earlier release wrote.
        patients_by_name = (
            select(MemberRow.patient).distinct().where(func.length(MemberRow.patient) != _PSEUDONYM_LENGTH)
        )
        for patient in writing.session.scalars(patients_by_name).all():
            row = update(MemberRow).where(MemberRow.patient == patient)
            writing.session.execute(row.values(patient=ledger.pseudonyms.of(patient)))


def _insert(ledger: Ledger, writing: Writing, entries: dict[str, _Revocation]) -> None:
    subsets = ledger.subsets()
    now = ledger.clock()
    names = {ledger.pseudonyms.of(patient): patient for patient in entries}
    ledger.seal(writing.session, names)
    there = {standing.pseudonym for standing in of_patients(writing.session, names)}

    for pseudonym in names.keys() - there:
        entry = entries[names[pseudonym]]
        receipt = entry.receipt or _NOT_RECORDED
        request = Request(Source("cli", receipt), receipt, entry.received)
        number = add_revocations(writing.session, [(request, pseudonym)], now)[pseudonym]
        events = [Event(number, 1, entry.received, State.RECEIVED, SOFTWARE, entry.due)]
        for state, at in _steps(entry, subsets.get(pseudonym)):
            remediation = check_transition(events[-1].state, state)
            events.append(Event(number, len(events) + 1, at, state, SOFTWARE, entry.due, "", remediation))

        add_events(writing.session, events)
        writing.stops.append(stop(request, pseudonym))


def _steps(entry: _Revocation, subset: Subset | None) -> list[tuple[State, datetime]]:
    if entry.state == "untrained":
        # A patient who was in no training set then is recorded as such, whatever set they are in today.
        return [(classified(None if subset is Subset.TRAIN else subset, two_person=False), entry.received)]

    ends = [(State.UNLEARNED, entry.closed or entry.received)] if entry.state == "unlearned" else []
    return [(State.PENDING, entry.received), *ends]


def _read(path: Path) -> dict[str, _Revocation]:
    try:
        content = path.read_bytes()
        values = json.loads(content)

        if isinstance(values, dict) and "version" not in values:
            # These have no dates. None of them can be later than the last change of the file.
            at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            states = _WithoutDates.model_validate(values).states
            return {
                p: _Revocation(state=state, receipt="", received=at, due=first_due(at)) for p, state in states.items()
            }

        return _Revocations.model_validate_json(content).patients
    except (OSError, ValueError):  # do not chain: its text could quote an id
        raise CohortError(
            "damaged", where=str(path), remedy="restore it from a backup; nothing is trained until then"
        ) from None
