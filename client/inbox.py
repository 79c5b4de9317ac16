"""The watched folder: signed lists of patients who opt out, each taken once and moved to `done/` or `refused/`.

    python -m client.inbox --dir DIR

A list counts when `LIST.sig` beside it holds a detached signature over its bytes by a key that `site.toml` names; it
may be put there in any order and slowly. Nothing but its name, counts and reasons is written about it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from client.consent.ledger import Ledger
from client.consent.opening import open_ledger
from client.consent.revocation import Receipt, Request, Source
from client.process import main
from client.settings import SiteFolder
from common.data.manifest import read_patient_list
from common.errors import ConfigError, EvidenceError, FedForgetError, InputError
from common.evidence.keys import PublicKey
from common.files import sync_folder, write_durable

POLL_SECONDS = 2.0
QUIET = timedelta(seconds=10)
"""A list whose signature does not hold may still be being written for so long after its last change."""
MOST_BYTES = 64 * 2**20
_SIGNATURE_BYTES = 128
_RECEIPT = "receipt.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(csv|json|txt)", re.ASCII)

_log = logging.getLogger("fedforget.inbox")


class OptOutList(BaseModel):
    """A list in JSON: `{"patients": ["...", ...]}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    patients: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Inbox:
    """The folder of one site.

    Attributes:
        ledger: of the site.
        folder: the watched one.
        keys: whose lists are taken.
    """

    ledger: Ledger
    folder: Path
    keys: tuple[PublicKey, ...]

    def look(self, now: datetime) -> int:
        """Take every list that is there with its signature; returns how many were moved away.

        Raises:
            InputError: a file of the site is damaged, or the folder cannot be written: the lists stay where they are.
        """
        names = [name for name in sorted(os.listdir(self.folder)) if _NAME.fullmatch(name)]
        return sum(self._take(name, now) for name in names if (self.folder / f"{name}.sig").exists())

    def _take(self, name: str, now: datetime) -> bool:
        path, seal = self.folder / name, self.folder / f"{name}.sig"
        try:
            content, signature = _read(path, MOST_BYTES), _read(seal, _SIGNATURE_BYTES)
            changed = datetime.fromtimestamp(max(path.stat().st_mtime, seal.stat().st_mtime), UTC)
        except FileNotFoundError:
            return False  # taken away meanwhile
        except InputError as err:
            self._refuse(name, err.problem)
            return True
        if not any(_holds(key, signature, content) for key in self.keys):
            if timedelta(0) <= now - changed < QUIET:
                return False
            self._refuse(name, "the signature is not one of a key that site.toml names, over these bytes")
            return True
        # The signature can be made by its signer alone, so the number says nothing about a list of few ids.
        number = hashlib.sha256(b"fedforget opt-out list\0" + signature).hexdigest()[:16]
        try:
            self._check_new(number)
            patients = _patients(name, content)
        except InputError as err:
            self._refuse(name, err.problem)
            return True
        request = Request(Source("list", number), number, min(changed, now))
        self._done(name, number, self.ledger.record(request, patients, also_unknown=True))
        return True

    def _check_new(self, number: str) -> None:
        """Raise for a list that was taken and moved; one that a killed process left before that is still to be."""
        for note in (self.folder / "done").glob(f"*.{_RECEIPT}"):
            if not note.with_name(note.name.removesuffix(f".{_RECEIPT}")).exists():
                continue
            said = json.loads(note.read_bytes())
            if number in (said.get("list"), said["receipt"]):
                before = said["receipt"]
                raise InputError(f"this very list was taken before, under receipt {before}; nothing was recorded")

    def _done(self, name: str, number: str, receipt: Receipt) -> None:
        answer = {
            "list": number,
            "receipt": receipt.receipt,
            "patients": receipt.patients,
            "received": receipt.received.isoformat(),
            "due": receipt.due.isoformat(),
        }
        self._move(name, "done", _RECEIPT, json.dumps(answer, indent=2).encode() + b"\n")
        _log.info("a list was taken: receipt %s, %d patients", receipt.receipt, receipt.patients)

    def _refuse(self, name: str, reason: str) -> None:
        self._move(name, "refused", "reason.txt", reason.encode() + b"\n")
        _log.warning("a list was refused: %s", reason)

    def _move(self, name: str, room: str, suffix: str, note: bytes) -> None:
        """The note first: a list that was moved has one. A list of the same name that is there already stays."""
        target = self.folder / room
        target.mkdir(mode=0o700, exist_ok=True)
        moved, number = name, 1
        while (target / moved).exists():
            number += 1
            stem, dot, kind = name.rpartition(".")
            moved = f"{stem}-{number}{dot}{kind}"
        write_durable(target / f"{moved}.{suffix}", note)
        # The signature last: without it a list that is left after a crash would never be looked at again.
        os.replace(self.folder / name, target / moved)
        with suppress(FileNotFoundError):
            os.replace(self.folder / f"{name}.sig", target / f"{moved}.sig")
        sync_folder(target)
        sync_folder(self.folder)


@contextmanager
def open_inbox(folder: SiteFolder) -> Iterator[Inbox]:
    """The site's inbox; its folder is made.

    Raises:
        InputError: settings, a key that cannot be read, or the ledger.
    """
    settings = folder.settings()
    where = f"{folder.settings_file} [inbox]"
    if not settings.inbox.keys:
        raise ConfigError("no key is named", where=where, remedy='set keys = ["consent-office.pem"]')
    keys = []
    for name in settings.inbox.keys:
        try:
            keys.append(PublicKey.from_pem((folder.root / name).read_bytes()))
        except OSError as err:
            raise ConfigError(f"a key cannot be read: {err.strerror}", where=where, remedy="check the path") from None
    folder.inbox.mkdir(mode=0o700, exist_ok=True)
    with open_ledger(folder) as ledger:
        yield Inbox(ledger, folder.inbox, tuple(keys))


def _read(path: Path, most: int) -> bytes:
    """A regular file's content; a link could lead to a file that its sender may not read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError("not a regular file")
            content = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}") from None
    if len(content) > most:
        raise InputError(f"more than {most} bytes")
    return content


def _holds(key: PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except EvidenceError:
        return False
    return True


def _patients(name: str, content: bytes) -> Sequence[str]:
    """Those whom a list names, read from the very bytes that were signed."""
    if name.endswith(".json"):
        try:
            patients = OptOutList.model_validate_json(content).patients
        except ValidationError:
            raise InputError('not of the form {"patients": ["id", ...]}') from None
        if not all(patient.strip() for patient in patients):
            raise InputError("an empty id")
        return tuple(dict.fromkeys(patient.strip() for patient in patients))
    with tempfile.TemporaryDirectory(prefix="opt-out-") as room:
        copy = Path(room) / "list.csv"
        copy.write_bytes(content)
        return read_patient_list(copy)


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
                _log.error("nothing is taken: %s", reason)
            said = reason
        stopped.wait(POLL_SECONDS)


if __name__ == "__main__":
    main("inbox", "Take signed opt-out lists.", run)
