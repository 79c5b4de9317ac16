"""Back up, restore and drill a folder of either side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import pyrage

from common.errors import InputError
from common.installation import own_version
from common.platform.backup import databases
from common.platform.backup.archive import (
    OUTSIDE,
    FileRecord,
    Manifest,
    Source,
    read_archive,
    walk,
    write_archive,
)
from common.platform.new_folder import new_folder

# Journals of SQLite belong to the live file; locks, marks and caches are made again.
_NEVER = (".db-wal", ".db-shm", ".db-journal", ".lock")
_FOLDERS = frozenset({"logs", "cache"})
_MARKS = frozenset({"heard", "tick"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of a restored folder."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Folder:
    """What a backup must know of a folder.

    Attributes:
        database: URL of the main database.
        sqlite: further SQLite files in use.
        outside: files outside the folder, by a name of their own.
    """

    side: Literal["site", "server"]
    root: Path
    database: str
    sqlite: Sequence[Path] = ()
    outside: Mapping[str, Path] | None = None


def backup(folder: Folder, target: Path, recipients: list[pyrage.x25519.Recipient], now: datetime) -> Manifest:
    """Write an encrypted backup of a folder that may be in use.

    The databases are copied first. A revocation that is recorded meanwhile is in the tombstones, from which the ledger
    restores it.

    Raises:
        InputError: a database is damaged.
        OutputError: the target exists or cannot be written.
        UnavailableError: PostgreSQL does not answer.
    """
    root = folder.root.resolve()
    target = target.resolve()
    with tempfile.TemporaryDirectory(prefix="fedforget-backup-") as scratch:
        copies: list[Source] = []
        dump = ""
        live = [path for path in folder.sqlite if path.exists()]
        if databases.is_sqlite(folder.database):
            live.append(databases.sqlite_file(folder.database))
        else:
            dump = databases.DUMP
            databases.dump_postgres(folder.database, Path(scratch) / dump)
            copies.append(Source(dump, Path(scratch) / dump))

        for number, database in enumerate(live):
            source_file = database.resolve()
            name = (
                source_file.relative_to(root).as_posix()
                if source_file.is_relative_to(root)
                else f"{OUTSIDE}/database.db"
            )
            databases.copy_sqlite(source_file, Path(scratch) / str(number))
            copies.append(Source(name, Path(scratch) / str(number)))

        # The live files of databases are left out; their consistent copies have the same names.
        sources_copied = {source.name for source in copies}
        outside = [Source(f"{OUTSIDE}/{name}", path) for name, path in (folder.outside or {}).items()]

        def skipped(path: PurePosixPath) -> bool:
            name = path.as_posix()
            return (
                name in sources_copied
                or name.endswith(_NEVER)
                or name in _MARKS
                or path.parts[0] in _FOLDERS
                # A backup that is written into the folder must not hold itself.
                or (root / name) == target
                or path.name.startswith(f".{target.name}.")
            )

        def describe(files: dict[str, FileRecord]) -> Manifest:
            return Manifest(side=folder.side, software=own_version(), created=now, dump=dump, files=files)

        return write_archive(target, [*copies, *walk(root, skipped), *outside], describe, recipients)


def restore(path: Path, identity: pyrage.x25519.Identity, to: Path, side: str, database: str = "") -> Manifest:
    """Restore a backup into the new folder `to`; a folder with content is never touched.

    Raises:
        InputError: the backup is damaged, of the other side, or needs `database`, the URL of an empty PostgreSQL.
        OutputError: `to` has content.
        UnavailableError: PostgreSQL does not answer or is not empty.
    """
    with new_folder(to) as part:
        manifest = read_archive(path, identity, part)
        _refuse_other(manifest, side, path)
        if manifest.dump:
            if not database:
                remedy = "give --database URL of an empty one"
                raise InputError("its database is a PostgreSQL", where=str(path), remedy=remedy)
            databases.load_postgres(database, part / manifest.dump)
            (part / manifest.dump).unlink()

    return manifest


def _refuse_other(manifest: Manifest, side: str, path: Path) -> None:
    if manifest.side != side:
        raise InputError(f"not a backup of a {side}", where=str(path), remedy=f"it is for fedforget-{manifest.side}")


Check = Callable[[Path], list[Finding]]
"""Verifies a restored folder: its ledger or registry, its log."""


def drill(path: Path, identity: pyrage.x25519.Identity, side: str, check: Check) -> tuple[Manifest, list[Finding]]:
    """Restore into a scratch folder, verify everything there, and delete it.

    A PostgreSQL snapshot is only listed: `restore --database` on a scratch server tries it.

    Raises:
        InputError: the backup is damaged or of the other side.
    """
    with tempfile.TemporaryDirectory(prefix="fedforget-drill-") as scratch:
        place = Path(scratch) / "restored"
        place.mkdir(mode=0o700)
        manifest = read_archive(path, identity, place)
        _refuse_other(manifest, side, path)
        size = sum(record.size for record in manifest.files.values())
        checks = [Finding("files", True, f"{len(manifest.files)} as in the manifest, {size / 2**20:.1f} MiB")]
        if manifest.dump:
            tables = databases.list_postgres(place / manifest.dump)
            checks.append(Finding("database", tables > 0, f"a PostgreSQL snapshot of {tables} tables, not loaded"))
        else:
            checks += check(place)

    return manifest, checks
