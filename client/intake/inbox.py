"""The watched folder for signed lists of patients who opt out. Each list is processed once, then moved.

    python -m client.intake.inbox --dir DIR

A list is accepted if `LIST.sig` beside it holds a detached signature over its bytes by a key in `site.toml`. The two
files may arrive in any order and slowly. Exactly the bytes that were read are recorded and moved: a list that replaces
them meanwhile stays and is read again. Only its name, counts and reasons are written about it.

A list goes to `done/` if it names a patient of this site, to `doubtful/` while a person must say who is meant, to
`unknown/` if it names nobody of this site, and to `refused/` if it is invalid.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from client.consent.kinds import Kind, read_kind
from client.intake.taken_files import ReadFile, give_back, read_file, take_away
from client.process import main
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import Receipt, Request, Source
from client.settings import SiteFolder
from common.errors import ConfigError, EvidenceError, FedForgetError, InputError
from common.evidence.keys import PublicKey
from common.files import sync_folder, write_durable
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.learning.data.tables.patient_list import parse_patient_list, parse_stated
from common.learning.data.tables.table import MOST_SHOWN
from common.platform.actor import by_key

POLL_SECONDS = 2.0
QUIET = timedelta(seconds=10)
"""Seconds after its last change in which a list with an invalid signature may still be being written."""
MOST_BYTES = 64 * 2**20
_SIGNATURE_BYTES = 128
_LONGEST_BASIS = 200
_RECEIPT = "receipt.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(csv|json|txt|csv\.gz|txt\.gz)", re.ASCII)
_TAKEN_ROOMS = ("done", "doubtful", "unknown")

Files = tuple[ReadFile, ReadFile]
"""A list and its signature."""

_log = logging.getLogger("fedforget.inbox")


class OptOutList(BaseModel):
    """A list in JSON: `{"patients": ["...", ...]}`, optionally with `kind` and `legal_basis`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    patients: tuple[str, ...] = Field(min_length=1)
    kind: Kind | None = None
    legal_basis: str = Field(default="", max_length=_LONGEST_BASIS)


@dataclass(frozen=True, slots=True)
class Inbox:
    """The folder of one site.

    Attributes:
        ledger: of the site.
        folder: the watched one.
        keys: keys whose lists are accepted.
        kind: of lists that state none.
        legal_basis: of lists that state none; empty: the usual one of the kind.
    """

    ledger: Ledger
    folder: Path
    keys: tuple[PublicKey, ...]
    kind: Kind = "opt-out"
    legal_basis: str = ""

    def look(self, now: datetime) -> int:
        """Process every list that has a signature; returns the number of lists moved away.

        Raises:
            InputError: a file of the site is damaged, or the folder cannot be written: the lists stay where they are.
        """
        give_back(self.folder)
        names = [name for name in sorted(os.listdir(self.folder)) if _NAME.fullmatch(name)]
        return sum(self._take(name, now) for name in names if (self.folder / f"{name}.sig").exists())

    def _take(self, name: str, now: datetime) -> bool:
        path = self.folder / name
        seal = self.folder / f"{name}.sig"

        try:
            found = read_file(path, MOST_BYTES)
            signature = read_file(seal, _SIGNATURE_BYTES)
        except FileNotFoundError:
            return False  # removed meanwhile
        except InputError as err:
            self._refuse(name, err.problem, None)
            return True

        changed = datetime.fromtimestamp(max(found.changed, signature.changed), UTC)
        files = (found, signature)
        signer = next((key for key in self.keys if _holds(key, signature.content, found.content)), None)

        if signer is None:
            if timedelta(0) <= now - changed < QUIET:
                return False
            self._refuse(name, "the signature is not valid for this list and a key in site.toml", files)
            return True

        # Only the signer can make the signature, so the number reveals nothing about a short list.
        number = hashlib.sha256(b"fedforget opt-out list\0" + signature.content).hexdigest()[:16]
        try:
            self._check_new(number)
            patients = _patients(name, found.content, self.ledger.is_near)
            kind, basis = _stated(name, found.content)
        except InputError as err:
            self._refuse(name, _reason(err), files)
            return True

        request = Request(
            Source("list", number),
            number,
            min(changed, now),
            kind=kind or self.kind,
            legal_basis=basis or self.legal_basis,
            identity=by_key(signer.keyid),
        )
        self._done(name, number, files, self.ledger.record(request, patients, also_unknown=True))

        return True

    def _check_new(self, number: str) -> None:
        """Raise for a list that was already processed and moved; one left by a killed process is still to be moved."""
        notes = (note for room in _TAKEN_ROOMS for note in (self.folder / room).glob(f"*.{_RECEIPT}"))

        for note in notes:
            if not note.with_name(note.name.removesuffix(f".{_RECEIPT}")).exists():
                continue
            said = json.loads(note.read_bytes())
            if number in (said.get("list"), said["receipt"]):
                before = said["receipt"]
                raise InputError(f"this list was already processed, under receipt {before}; nothing was recorded")

    def _done(self, name: str, number: str, files: Files, receipt: Receipt) -> None:
        answer = {
            "list": number,
            "receipt": receipt.receipt,
            "patients": receipt.patients,
            "known": receipt.known,
            "unknown": receipt.unknown,
            "doubtful": receipt.doubtful,
            "note": receipt.note,
            "received": receipt.received.isoformat(),
            "due": receipt.due.isoformat(),
        }
        room = "doubtful" if receipt.doubtful else "done" if receipt.known else "unknown"
        self._move(name, room, _RECEIPT, json.dumps(answer, indent=2).encode() + b"\n", files)
        log = _log.info if room == "done" else _log.warning
        note = f"; {receipt.note}" if receipt.note else ""
        log("list accepted: receipt %s, %d patients%s", receipt.receipt, receipt.patients, note)

    def _refuse(self, name: str, reason: str, files: Files | None) -> None:
        self._move(name, "refused", "reason.txt", reason.encode() + b"\n", files)
        _log.warning("list refused: %s", reason)

    def _move(self, name: str, room: str, suffix: str, note: bytes, files: Files | None) -> None:
        """Write the note first, so that every moved list has one. An existing list of the same name stays."""
        target = self.folder / room
        target.mkdir(mode=0o700, exist_ok=True)
        moved = name
        number = 1

        while (target / moved).exists():
            number += 1
            stem, dot, kind = name.rpartition(".")
            moved = f"{stem}-{number}{dot}{kind}"

        write_durable(target / f"{moved}.{suffix}", note)
        # The signature last: without it, a list left behind by a crash would never be processed.
        found, signature = files or (None, None)
        take_away(self.folder / name, target / moved, found)
        take_away(self.folder / f"{name}.sig", target / f"{moved}.sig", signature)
        sync_folder(target)
        sync_folder(self.folder)


@contextmanager
def open_inbox(folder: SiteFolder) -> Iterator[Inbox]:
    """The site's inbox; creates its folder.

    Raises:
        InputError: settings, a key that cannot be read, or the ledger.
    """
    settings = folder.settings()
    where = f"{folder.settings_file} [inbox]"
    if not settings.inbox.keys:
        raise ConfigError("no key is configured", where=where, remedy='set keys = ["consent-office.pem"]')
    keys = []
    for name in settings.inbox.keys:
        try:
            keys.append(PublicKey.from_pem((folder.root / name).read_bytes()))
        except OSError as err:
            raise ConfigError(f"cannot read a key: {err.strerror}", where=where, remedy="check the path") from None

    folder.inbox.mkdir(mode=0o700, exist_ok=True)
    with open_ledger(folder) as ledger:
        yield Inbox(ledger, folder.inbox, tuple(keys), settings.inbox.kind, settings.inbox.legal_basis)


def _holds(key: PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except EvidenceError:
        return False

    return True


def _patients(name: str, content: bytes, is_patient: Callable[[str], bool]) -> Sequence[str]:
    """The patients on a list, read from the signed bytes."""
    if not name.endswith(".json"):
        return parse_patient_list(content, "", is_patient, most=MOST_BYTES)
    patients = _json_list(content).patients
    found = dict[str, None]()
    wrong = dict[int, str]()

    for number, patient in enumerate(patients, start=1):
        try:
            found[normal(patient)] = None
        except IdentifierError as err:
            wrong[number] = err.problem

    if wrong:
        numbers = [*wrong][:MOST_SHOWN]
        more = len(wrong) - MOST_SHOWN
        listed = ", ".join(map(str, numbers)) + (f" and {more} more" if more > 0 else "")
        raise InputError(f"entry {listed}: {wrong[numbers[0]]}")

    return tuple(found)


def _json_list(content: bytes) -> OptOutList:
    """Refuse duplicate keys, which readers interpret differently."""
    try:
        return OptOutList.model_validate(json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique))
    except (ValueError, RecursionError):  # a ValidationError is one too
        form = (
            'not of the form {"patients": ["id", ...]}, which may state "kind" and "legal_basis", with every key once'
        )
        raise InputError(form) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _reason(err: InputError) -> str:
    """One line about all wrong rows, up to a limit."""
    rows = [one.where.strip() for one in (err, *err.others) if one.where.strip()]
    more = f" and {err.unlisted} more" if err.unlisted else ""
    where = f"{', '.join(rows)}{more}: " if rows else ""
    remedy = f" ({err.remedy})" if err.remedy else ""

    return f"{where}{err.problem}{remedy}"


def _stated(name: str, content: bytes) -> tuple[Kind | None, str]:
    """The kind and the legal basis that a list states for all its patients; a list of ids alone states neither."""
    if name.endswith(".json"):
        json_list = _json_list(content)
        return json_list.kind, json_list.legal_basis.strip()
    stated = parse_stated(content, "", ("kind", "legal_basis"), most=MOST_BYTES)
    basis = stated.get("legal_basis", "")
    if len(basis) > _LONGEST_BASIS or not basis.isprintable():
        raise InputError(f"legal_basis is of at most {_LONGEST_BASIS} printable characters")

    return read_kind(stated["kind"].lower(), "kind") if "kind" in stated else None, basis


def run(folder: SiteFolder) -> None:
    """Watch until SIGTERM.

    Raises:
        InputError: settings or a key.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with open_inbox(folder) as inbox:
        _log.info("watching")
        _watch(inbox, stopped)


def _watch(inbox: Inbox, stopped: threading.Event) -> None:
    said = ""
    while not stopped.is_set():
        try:
            inbox.look(datetime.now(UTC))
            said = ""
        except (FedForgetError, OSError, SQLAlchemyError) as err:
            reason = f"the folder or the database failed ({type(err).__name__})"
            reason = str(err) if isinstance(err, FedForgetError) else reason
            if reason != said:
                _log.error("no list is processed: %s", reason)
            said = reason

        stopped.wait(POLL_SECONDS)


if __name__ == "__main__":
    main("inbox", "Process signed opt-out lists.", run)
