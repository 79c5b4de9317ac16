"""Receipts as the pages list them: counted, filtered and ordered in milliseconds, whatever the ledger's size.

An in-memory SQLite database that follows the ledger by the numbers of its steps. It holds nothing of its own: a new
process builds it again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from client.account.summary import Summary, summarised
from client.revocations.ledger import Ledger
from client.revocations.revocation import OPEN, State, is_alike, nobody_asked
from client.revocations.rows.ledger_rows import chunks, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from common.platform.sql import reading

COLUMNS = ("receipt", "kind", "state", "source", "patients", "received", "due", "campaign")
"""By which receipts can be ordered."""
_FIELDS = (
    "receipt", "number", "kind", "state", "source", "scope", "patients", "known", "doubtful", "received", "recorded",
    "due", "closed", "campaign", "legal_basis", "is_open", "is_asked", "is_alike",
)  # fmt: skip
_WHOLE_BELOW = 5000
"""With more changed receipts than this, the whole ledger is read at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """A receipt in a list."""

    receipt: str
    number: int
    kind: str
    state: State
    source: str
    scope: str
    patients: int
    known: int
    doubtful: int
    received: datetime
    recorded: datetime
    due: datetime
    closed: datetime | None
    campaign: int | None
    legal_basis: str
    is_open: bool
    is_asked: bool
    is_alike: bool

    def days_left(self, now: datetime) -> float | None:
        """Days until the answer is due; None if nobody waits for one."""
        return (self.due - now) / timedelta(days=1) if self.is_open and self.is_asked else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list shows.

    Attributes:
        states: empty for all.
        text: beginning of a receipt.
        due_before: only open receipts whose answer is due before.
    """

    states: frozenset[State] = frozenset()
    kind: str = ""
    source: str = ""
    text: str = ""
    due_before: datetime | None = None
    is_asked: bool | None = None


class Index:
    """The receipts of a ledger; threads may share it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._newest = 0
        self._counts: dict[State, int] | None = None
        # Transactions are begun by hand, one for all rows of a refresh.
        self._rows = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._rows.row_factory = sqlite3.Row
        self._rows.execute(f"create table receipts ({', '.join(_FIELDS)}, primary key (receipt))")
        # Lists leave out look-alikes. The index of a column gives their order: rows before a page are not read.
        for column in COLUMNS:
            self._rows.execute(f"create index ix_{column} on receipts (is_alike, {column}, number)")
        # Open receipts are few.
        self._rows.execute("create index ix_work on receipts (is_alike, is_open, due, number)")
        self._rows.execute("create index ix_open on receipts (is_open, is_asked, due)")

    def newest(self) -> int:
        """Number of the newest step in the ledger."""
        with reading(self._ledger.engine) as session:
            return session.scalar(select(func.max(RevocationEventRow.id))) or 0

    def refresh(self) -> None:
        """Take over what has happened in the ledger since the last call."""
        with self._lock:
            # One snapshot for number and rows: no step that is recorded meanwhile is skipped.
            with reading(self._ledger.engine) as session:
                newest = session.scalar(select(func.max(RevocationEventRow.id))) or 0
                if newest == self._newest:
                    return
                changed_receipts = (
                    select(RevocationRow.receipt)
                    .join(RevocationEventRow, RevocationEventRow.revocation == RevocationRow.id)
                    .where(RevocationEventRow.id > self._newest)
                    .distinct()
                )
                receipts = [*session.scalars(changed_receipts)]
                if len(receipts) > _WHOLE_BELOW:
                    standing = standing_of(session)
                else:
                    standing = [
                        one
                        for some in chunks(receipts)
                        for one in standing_of(session, RevocationRow.receipt.in_(some))
                    ]

            self._put(summarised(standing))
            # Last: if this fails before, the next refresh reads the same steps again.
            self._newest = newest

    def _put(self, summaries: Iterable[Summary]) -> None:
        marks = ", ".join("?" for _ in _FIELDS)
        values = (tuple(_stored(summary, name) for name in _FIELDS) for summary in summaries)
        self._rows.execute("begin")
        self._rows.executemany(f"insert or replace into receipts values ({marks})", values)  # noqa: S608 - marks
        self._rows.execute("commit")
        self._counts = None

    def listed(self, wanted: Wanted, sort: str, *, is_descending: bool, start: int, most: int) -> tuple[list[Row], int]:
        """Some of the receipts in an order, and the number of all that match."""
        self.refresh()
        where, values = _where(wanted)
        # A column's name cannot be a parameter of a statement: only names of this list get into it.
        column = sort if sort in COLUMNS else "due"
        order = "desc" if is_descending else "asc"
        query = f"select * from receipts{where} order by {column} {order}, number {order} limit ? offset ?"  # noqa: S608 - names of ours
        with self._lock:
            total = self._rows.execute(f"select count(*) from receipts{where}", values).fetchone()[0]  # noqa: S608 - as above
            rows = self._rows.execute(query, [*values, most, start]).fetchall()

        return [_row(row) for row in rows], int(total)

    def counts(self) -> Mapping[State, int]:
        """Receipts in each state."""
        self.refresh()
        query = "select state, count(*) from receipts where is_alike = 0 group by state"
        with self._lock:
            # Each page asks, for its menu.
            if self._counts is None:
                self._counts = {State(state): count for state, count in self._rows.execute(query)}
            return dict(self._counts)

    def due_within(self, now: datetime, days: Sequence[int]) -> list[int]:
        """How many open receipts have an answer due within so many days; 0 days: overdue."""
        self.refresh()
        query = "select count(*) from receipts where is_open = 1 and is_asked = 1 and due < ?"
        with self._lock:
            return [
                int(self._rows.execute(query, [(now + timedelta(days=number)).timestamp()]).fetchone()[0])
                for number in days
            ]

    def held_alike(self) -> int:
        """Look-alike identifiers that wait for a person to say who is meant."""
        self.refresh()
        query = "select count(*) from receipts where state = 'on-hold' and is_alike = 1"
        with self._lock:
            return int(self._rows.execute(query).fetchone()[0])

    def find(self, receipt: str) -> Row | None:
        """One receipt."""
        self.refresh()
        with self._lock:
            row = self._rows.execute("select * from receipts where receipt = ?", [receipt]).fetchone()
        return None if row is None else _row(row)


def _where(wanted: Wanted) -> tuple[str, list[object]]:
    # Holds on those whom an identifier may mean are answered among the doubtful.
    parts = ["is_alike = 0"]
    values: list[object] = []
    if wanted.states:
        parts.append(f"state in ({', '.join('?' for _ in wanted.states)})")
        values += sorted(map(str, wanted.states))
        if wanted.states <= OPEN:
            # The states imply it, but SQLite only uses `ix_work`, whose rows are few, if the query names its column.
            parts.append("is_open = 1")
    for name, value in (("kind", wanted.kind), ("source", wanted.source)):
        if value:
            parts.append(f"{name} = ?")
            values.append(value)
    if wanted.text:
        # A range, which the index serves. `like` would take % and _ in the text for wildcards.
        parts.append("receipt >= ? and receipt < ?")
        values += [wanted.text, wanted.text + "\U0010ffff"]
    if wanted.is_asked is not None:
        parts.append("is_asked = ?")
        values.append(int(wanted.is_asked))
    if wanted.due_before is not None:
        parts.append("is_open = 1 and is_asked = 1 and due < ?")
        values.append(wanted.due_before.timestamp())

    return f" where {' and '.join(parts)}", values


def _stored(summary: Summary, name: str) -> Any:
    if name == "is_open":
        return int(summary.state in OPEN)
    if name == "is_alike":
        return int(is_alike(summary.receipt))
    if name == "is_asked":
        return int(not nobody_asked(summary.receipt))
    value = getattr(summary, name)
    return value.timestamp() if isinstance(value, datetime) else str(value) if isinstance(value, State) else value


def _row(row: sqlite3.Row) -> Row:
    values = dict(row)
    for name in ("received", "recorded", "due", "closed"):
        values[name] = None if values[name] is None else datetime.fromtimestamp(values[name], UTC)
    values["state"] = State(values["state"])
    values["is_open"] = bool(values["is_open"])
    values["is_asked"] = bool(values["is_asked"])
    values["is_alike"] = bool(values["is_alike"])

    return Row(**values)
