"""Put the parts of a support bundle into one ZIP file."""

from __future__ import annotations

import getpass
import io
import json
import socket
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import Engine

from common.errors import FedForgetError
from common.files import write_private
from common.platform.checks import Check
from common.platform.sql import open_database
from common.platform.support import contents
from common.platform.support.redaction import WITHHELD, Redaction

_README = """Support bundle of FedForget

Everything here is plain text: read it before you send it.

versions.json   software
settings.json   settings in force: numbers, switches, choices and defaults; other text is withheld, lists are counted
doctor.json     what `doctor` found
database.json   kind of database, and whether its schema is current
machine.json    cores, memory, disk, cards
metrics.json    metrics of the running processes; empty if none ran
logs/           last lines of each process

In doctor.json, metrics.json and logs/, a word stays if FedForget's own code can say it; so does a number of up to four
digits. All else is withheld: identifiers, names, addresses, paths, dates, digests and keys. Names of hospitals are
replaced by numbers.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a bundle is made of.

    Args:
        examine: runs the doctor.
        pending: revision of a database whose schema is not current, None if it is.
        processes: names of the processes whose logs are taken.
        parts: files and folders whose sizes are told; their names are given by our code.
        private: words that are withheld in any case, such as identifiers of patients.
        aliases: names that are replaced by others.
    """

    side: str
    root: Path
    logs: Path
    settings: BaseModel
    database_url: str
    monitor: int
    examine: Callable[[], Sequence[Check]]
    pending: Callable[[Engine], str | None]
    processes: Sequence[str]
    parts: Sequence[Path]
    private: set[str] = field(default_factory=set)
    aliases: Mapping[str, str] = field(default_factory=dict)


def write_bundle(subject: Subject, out: Path, now: datetime) -> list[str]:
    """Write the bundle to a new file that only its owner can read; returns the names of its parts.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    # The path, the account and the machine's name are words of this hospital, even where our code has them too.
    redaction = Redaction.of(subject.private | _whereabouts(subject.root, subject.aliases), subject.aliases)
    about = {"side": subject.side, "made": now.isoformat(timespec="seconds"), **contents.versions()}
    parts: dict[str, object] = {
        "versions.json": about,
        "settings.json": contents.settings(subject.settings),
        "doctor.json": contents.checks(subject.examine(), redaction),
        "database.json": _database(subject, redaction),
        "machine.json": contents.machine(subject.root, subject.parts),
        "metrics.json": contents.metrics(subject.monitor, redaction),
    }
    texts = {"README.txt": _README}
    texts |= {name: json.dumps(part, indent=2) + "\n" for name, part in parts.items()}
    for process, lines in contents.logs(subject.logs, subject.processes, redaction):
        texts[f"logs/{process}.jsonl"] = lines

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in texts.items():
            file.writestr(zipfile.ZipInfo(name, now.timetuple()[:6]), text, zipfile.ZIP_DEFLATED)
    write_private(out, archive.getvalue())

    return list(texts)


def _whereabouts(root: Path, aliases: Mapping[str, str]) -> set[str]:
    """Words of the folder's path, the account and the machine."""
    words = {*root.resolve().parts, socket.gethostname(), *socket.gethostname().split(".")}
    with suppress(KeyError, OSError):  # a container may run as a user without a name
        words.add(getpass.getuser())

    return {word for word in words if word not in aliases and word != "/"}


def _database(subject: Subject, redaction: Redaction) -> dict[str, str]:
    kind = "SQLite" if subject.database_url.startswith("sqlite") else "PostgreSQL"
    try:
        engine = open_database(subject.database_url)
        try:
            pending = subject.pending(engine)
        finally:
            engine.dispose()
    except FedForgetError as err:
        return {"kind": kind, "schema": redaction.text(str(err))}

    revision = pending if pending is None or (pending.isalnum() and len(pending) <= 8) else WITHHELD
    return {"kind": kind, "schema": "current" if revision is None else revision}
