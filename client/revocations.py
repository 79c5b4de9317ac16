"""Who has revoked at this site: `revocations.json`, how it grows, and how a process that runs notices.

A patient stays in it for ever. Nothing here needs torch, as the command line and the announcer read it too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from common.errors import CohortError, OutputError
from common.files import write_durable
from common.records import Subset

REVOCATIONS_FILE = "revocations.json"
_SITE_FILE = "site.json"

Scope = Literal["all"]
"""What is revoked: all use of the patient's data."""
RevocationState = Literal["pending", "unlearned", "untrained"]
"""`pending`: the model has still to forget; `untrained`: the patient was in no set that weights learn from."""


class Revocation(BaseModel):
    """One patient's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: RevocationState
    receipt: str
    received: AwareDatetime
    due: AwareDatetime
    scope: Scope = "all"
    closed: AwareDatetime | None = None
    """When a model without the patient became this site's base."""


class Revocations(BaseModel):
    """All of a site's, by patient."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[2] = 2
    patients: dict[str, Revocation] = {}

    @cached_property
    def tombstones(self) -> frozenset[str]:
        """All revoked patients: no training or retention ever reads them again."""
        return frozenset(self.patients)

    @cached_property
    def pending(self) -> frozenset[str]:
        """Those whom the model has still to forget."""
        return frozenset(p for p, entry in self.patients.items() if entry.state == "pending")


class _WithoutDates(BaseModel):
    """The first version of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    states: dict[str, Literal["pending", "unlearned"]]


class _Known(BaseModel):
    """The part of `site.json` that says whom the site knows."""

    name: str
    subsets: dict[str, Subset]


class Waiting(NamedTuple):
    """Revocations that the model has still to follow; what leaves the site about them."""

    number: int
    first_due: datetime | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the one who handed in revocations gets: no identities."""

    receipt: str
    patients: int
    """In the list."""
    earlier: int
    """Of these, revoked before; their first dates stay in force."""
    received: datetime
    due: datetime


def read_revocations(folder: Path) -> Revocations:
    """Read `revocations.json`; a damaged file is an error, never an empty list.

    Raises:
        CohortError: damaged.
    """
    path = folder / REVOCATIONS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Revocations()
    except OSError as err:
        raise _damaged(path) from err
    try:
        values = json.loads(content)
        if isinstance(values, dict) and "version" not in values:
            old = _WithoutDates.model_validate(values)
            return _with_dates(old, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        return Revocations.model_validate_json(content)
    except (OSError, ValueError):  # its text could quote an id
        raise _damaged(path) from None


def write_revocations(folder: Path, revocations: Revocations) -> None:
    """Write `revocations.json` whole; it is on the disk when this returns.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(revocations.model_dump(mode="json", exclude_defaults=True) | {"version": 2}, sort_keys=True)
    write_durable(folder / REVOCATIONS_FILE, text.encode())


def record_revocations(
    folder: Path,
    patients: Collection[str],
    *,
    receipt: str,
    received: datetime,
    days_to_answer: float,
    scope: Scope = "all",
    also_unknown: bool = False,
) -> Receipt:
    """Record revocations: from now on no train or retain batch holds these patients, whichever process makes it.

    With `also_unknown` those whom the site does not know are recorded too, so that no later import lets them in.

    Raises:
        CohortError: some patients are not known here, and nothing is recorded; or a file of the site is damaged.
        OutputError: the disk does not take it, and nothing is recorded.
    """
    due = received + timedelta(days=days_to_answer)
    # Read under the lock: an import that ends meanwhile may make somebody known.
    with locked(folder):
        nobody_yet = also_unknown and not (folder / _SITE_FILE).exists()
        known = {} if nobody_yet else known_patients(folder)
        unknown = sum(p not in known for p in patients)
        if unknown and not also_unknown:
            raise CohortError(
                f"{unknown} of {len(patients)} patients of the list are not known here; nothing was recorded",
                where=str(folder),
                remedy="check the list",
            )
        before = read_revocations(folder).patients
        new = {
            p: Revocation(
                state="pending" if known.get(p) is Subset.TRAIN else "untrained",
                receipt=receipt,
                received=received,
                due=due,
                scope=scope,
            )
            for p in patients
            if p not in before
        }
        if new:
            write_revocations(folder, Revocations(patients={**before, **new}))
    return Receipt(receipt, len(set(patients)), len(set(patients)) - len(new), received, due)


def close_revocations(folder: Path, patients: Collection[str], *, at: datetime) -> int:
    """Mark pending patients as unlearned; returns how many were pending.

    Raises:
        CohortError: the file is damaged.
        OutputError: the disk does not take it.
    """
    with locked(folder):
        entries = dict(read_revocations(folder).patients)
        closing = [p for p in patients if p in entries and entries[p].state == "pending"]
        for patient in closing:
            entries[patient] = entries[patient].model_copy(update={"state": "unlearned", "closed": at})
        if closing:
            write_revocations(folder, Revocations(patients=entries))
    return len(closing)


def waiting(folder: Path) -> Waiting:
    """How many revocations the model has still to follow, and when the first is due.

    Raises:
        CohortError: the file is damaged.
    """
    pending = [entry.due for entry in read_revocations(folder).patients.values() if entry.state == "pending"]
    return Waiting(len(pending), min(pending, default=None))


def known_patients(folder: Path) -> dict[str, Subset]:
    """Whom the site has, or had, in one of its sets.

    Raises:
        CohortError: no data was imported, or the file is damaged.
    """
    try:
        return _Known.model_validate_json((folder / _SITE_FILE).read_bytes()).subsets
    except (OSError, ValidationError):
        raise CohortError("no imported data here", where=str(folder), remedy="run fedforget-site data import") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a site's revocations against other writers, be they threads or processes.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        handle = os.open(folder / f".{REVOCATIONS_FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise OutputError(f"cannot write: {err.strerror}", where=str(folder), remedy="check its permissions") from err
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class RevocationWatch:
    """The revocations as they stand on disk now; the file is read again only when it is another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._found = Revocations()

    def now(self) -> Revocations:
        """Read anew if need be.

        Raises:
            CohortError: damaged.
        """
        # The stamp is taken before the content: a change in between is found at the next call at the latest.
        stamp = self._stamp()
        if stamp is None:
            self._found = Revocations()
        elif stamp != self._seen:
            self._found = read_revocations(self._folder)
        self._seen = stamp
        return self._found

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._folder / REVOCATIONS_FILE)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise _damaged(self._folder / REVOCATIONS_FILE) from err
        return status.st_ino, status.st_mtime_ns, status.st_size


def _with_dates(old: _WithoutDates, at: datetime) -> Revocations:
    """The first version had no dates: the date of its file stands for them."""
    entries = {
        p: Revocation(state=state, receipt="", received=at, due=at + timedelta(days=30))
        for p, state in old.states.items()
    }
    return Revocations(patients=entries)


def _damaged(path: Path) -> CohortError:
    return CohortError("damaged", where=str(path), remedy="restore it from a backup; nothing runs before")
