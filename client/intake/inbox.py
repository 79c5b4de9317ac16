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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from client.consent.kinds import Kind
from client.intake.opt_out_lists import MOST_BYTES, listed_patients, reason_of, stated
from client.intake.taken_files import ReadFile, give_back, read_file, take_away
from client.process import main
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import Receipt, Request, Source
from client.settings import SiteFolder
from common.errors import CohortError, ConfigError, EvidenceError, FedForgetError, InputError, OutputError
from common.evidence.keys import PublicKey
from common.files import sync_folder, write_durable
from common.platform.actor import by_key

POLL_SECONDS = 2.0
QUIET = timedelta(seconds=10)
"""Seconds after its last change in which a list with an invalid signature may still be being written."""
# Ed25519 signatures have 64 bytes, those by P-256 in DER at most 72.
_SIGNATURE_BYTES = 128
_RECEIPT = "receipt.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(csv|json|txt|csv\.gz|txt\.gz)", re.ASCII)
_TAKEN_ROOMS = ("done", "doubtful", "unknown")

Files = tuple[ReadFile, ReadFile]
"""A list and its signature."""

_log = logging.getLogger("fedforget.inbox")


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

        A list that cannot be processed stays where it is and does not stop the others.

        Raises:
            FedForgetError: the first fault of the site, such as a damaged file, a full disk or a file without access.
            OSError, SQLAlchemyError: likewise.
        """
        give_back(self.folder)
        files_moved = 0
        faults: list[FedForgetError | OSError | SQLAlchemyError] = []

        for name in sorted(os.listdir(self.folder)):
            if not _NAME.fullmatch(name) or not (self.folder / f"{name}.sig").exists():
                continue
            try:
                files_moved += self._take(name, now)
            except (FedForgetError, OSError, SQLAlchemyError) as err:
                faults.append(err)

        if faults:
            raise faults[0]
        return files_moved

    def _take(self, name: str, now: datetime) -> bool:
        path = self.folder / name
        seal = self.folder / f"{name}.sig"

        try:
            content = read_file(path, MOST_BYTES)
            signature = read_file(seal, _SIGNATURE_BYTES)
        except FileNotFoundError:
            return False  # removed meanwhile
        except InputError as err:
            self._refuse(name, err.problem, None)
            return True

        changed_at = datetime.fromtimestamp(max(content.changed_at, signature.changed_at), UTC)
        files = (content, signature)
        signer = next((key for key in self.keys if _holds(key, signature.content, content.content)), None)

        if signer is None:
            # A list dated in the future must not wait for ever.
            if timedelta(0) <= now - changed_at < QUIET:
                return False
            self._refuse(name, "the signature is not valid for this list and a key in site.toml", files)
            return True

        # Only the signer can make the signature, so the number reveals nothing about a short list.
        number = hashlib.sha256(b"fedforget opt-out list\0" + signature.content).hexdigest()[:16]
        try:
            self._check_new(number)
            patients = listed_patients(name, content.content, self.ledger.is_near)
            kind, basis = stated(name, content.content)
        except (CohortError, ConfigError, OutputError):
            raise  # the site's own fault, not the list's
        except InputError as err:
            self._refuse(name, reason_of(err), files)
            return True

        request = Request(
            Source("list", number),
            number,
            # When the list arrived is the date from which the month of Art. 12(3) GDPR counts.
            min(changed_at, now),
            kind=kind or self.kind,
            legal_basis=basis or self.legal_basis,
            identity=by_key(signer.keyid),
        )
        # Recorded before it is moved: after a crash in between it is read again, and nothing is recorded twice.
        self._done(name, number, files, self.ledger.record(request, patients, also_unknown=True))

        return True

    def _check_new(self, number: str) -> None:
        """Raise for a list that was already processed and moved; one left by a killed process is still to be moved."""
        notes = (note for room in _TAKEN_ROOMS for note in (self.folder / room).glob(f"*.{_RECEIPT}"))

        for note in notes:
            if not note.with_name(note.name.removesuffix(f".{_RECEIPT}")).exists():
                continue
            before, numbers = _numbers_in(note)
            if number in numbers:
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
        place = name
        number = 1

        while (target / place).exists():
            number += 1
            stem, dot, kind = name.rpartition(".")
            place = f"{stem}-{number}{dot}{kind}"

        write_durable(target / f"{place}.{suffix}", note)
        # The signature last: without it, a list left behind by a crash would never be processed.
        content, signature = files or (None, None)
        take_away(self.folder / name, target / place, content)
        take_away(self.folder / f"{name}.sig", target / f"{place}.sig", signature)
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


def _numbers_in(note: Path) -> tuple[str, tuple[str, ...]]:
    """The receipt of a list that was processed, and the numbers by which the list is known."""
    try:
        note_body = json.loads(note.read_bytes())
        return str(note_body["receipt"]), (str(note_body.get("list", "")), str(note_body["receipt"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CohortError(
            "a damaged note about a processed list",
            where=f"{note.parent.name}/{note.name}",
            remedy="restore it from a backup, or move it and its list out of the inbox",
        ) from None


def _holds(key: PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except EvidenceError:
        return False

    return True


def run(folder: SiteFolder) -> None:
    """Watch until SIGTERM.

    Raises:
        InputError: settings or a key.
    """
    stop_event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_event.set())
    with open_inbox(folder) as inbox:
        _log.info("watching")
        _watch(inbox, stop_event)


def _watch(inbox: Inbox, stopped: threading.Event) -> None:
    last_reason = ""
    while not stopped.is_set():
        try:
            inbox.look(datetime.now(UTC))
            last_reason = ""
        except (FedForgetError, OSError, SQLAlchemyError) as err:
            # The text of a foreign exception may quote a list.
            reason = f"the folder or the database failed ({type(err).__name__})"
            reason = str(err) if isinstance(err, FedForgetError) else reason
            if reason != last_reason:
                _log.error("no list is processed: %s", reason)
            last_reason = reason

        stopped.wait(POLL_SECONDS)


if __name__ == "__main__":
    main("inbox", "Process signed opt-out lists.", run)
