"""A backup file: a tar stream in the age format (https://age-encryption.org/v1), encrypted to public keys.

The last member, `manifest.json`, lists every file with its size and SHA-256, so a stream that was cut off is seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import pyrage
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from common.disk import unwritable
from common.errors import InputError, OutputError
from common.files import sync_folder

MANIFEST = "manifest.json"
OUTSIDE = "outside"
"""Folder in the archive for files that lie outside the folder that was backed up."""
_MANIFEST_BYTES = 64 * 2**20
_BLOCK = 2**20


class FileRecord(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(extra="forbid")
    size: int
    sha256: str
    link: str = ""
    """Name that a symbolic link points to, in the same folder, e.g. `keys` to the keys in use."""


class Manifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["fedforget-backup-1"] = "fedforget-backup-1"
    side: Literal["site", "server"]
    software: str
    created: AwareDatetime
    dump: str = ""
    """Name of the `pg_dump` archive, if the database is a PostgreSQL."""
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Source:
    """A file to back up, by its name in the archive."""

    name: str
    path: Path


class _Counting(io.RawIOBase):
    """A file that counts and digests what is read from it."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._remaining = size
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most what was left when the file was opened: a log may grow meanwhile."""
        block = self._file.read(min(self._remaining if size < 0 else size, self._remaining))
        self._remaining -= len(block)
        self.digest.update(block)
        return block


def write_archive(
    target: Path,
    sources: Iterable[Source],
    describe: Callable[[dict[str, FileRecord]], Manifest],
    recipients: list[pyrage.x25519.Recipient],
) -> Manifest:
    """Write a new backup file, whole or not at all; nothing unencrypted touches the disk here.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    if target.exists():
        raise OutputError("exists already", where=str(target), remedy="nothing is overwritten: choose another name")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    # Encryption reads a stream and tar writes one: a pipe and a thread join them without an unencrypted file.
    read_end, write_end = os.pipe()
    manifests: list[Manifest] = []
    failures: list[BaseException] = []

    def fill() -> None:
        try:
            with os.fdopen(write_end, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|", bufsize=_BLOCK) as tar:
                manifests.append(_fill(tar, sources, describe))
        except BaseException as err:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(err)

    writer = threading.Thread(target=fill, name="backup")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            writer.start()
            with os.fdopen(read_end, "rb") as pipe:
                pyrage.encrypt_io(pipe, out, recipients)
            # The encryption also ends when the writer fails: only a joined writer without failure makes a whole backup.
            writer.join()
            if failures:
                raise failures[0]
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, target)
        sync_folder(target.parent)
    except OSError as err:
        raise unwritable(err, target) from err
    finally:
        part.unlink(missing_ok=True)

    return manifests[0]


def _fill(
    tar: tarfile.TarFile, sources: Iterable[Source], describe: Callable[[dict[str, FileRecord]], Manifest]
) -> Manifest:
    records: dict[str, FileRecord] = {}
    for source in sources:
        if source.path.is_symlink():
            records[source.name] = _fill_link(tar, source)
            continue
        # A version that is retired meanwhile takes its files along.
        with contextlib.suppress(FileNotFoundError), source.path.open("rb") as file:
            info = tarfile.TarInfo(source.name)
            status = os.fstat(file.fileno())
            info.size = status.st_size
            info.mtime = int(status.st_mtime)
            # Group and others get no rights, whatever the live file allows.
            info.mode = status.st_mode & 0o700
            counting = _Counting(file, info.size)
            tar.addfile(info, counting)
            records[source.name] = FileRecord(size=info.size, sha256=counting.digest.hexdigest())

    # Last: digests are known only now, and an archive that was cut short then has no manifest.
    manifest = describe(records)
    content = manifest.model_dump_json().encode()
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

    return manifest


def _fill_link(tar: tarfile.TarFile, source: Source) -> FileRecord:
    info = tarfile.TarInfo(source.name)
    info.type = tarfile.SYMTYPE
    info.linkname = os.readlink(source.path)
    tar.addfile(info)

    return FileRecord(size=0, sha256=hashlib.sha256().hexdigest(), link=info.linkname)


def read_archive(path: Path, identity: pyrage.x25519.Identity, into: Path) -> Manifest:
    """Unpack a backup into the empty folder `into`, and compare every file with the manifest.

    Raises:
        InputError: the file cannot be read or decrypted, or is damaged.
        OutputError: the folder cannot be written.
    """
    read_end, write_end = os.pipe()
    failures: list[str] = []

    def decrypt() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            try:
                with path.open("rb") as file:
                    pyrage.decrypt_io(file, pipe, [identity])
            except pyrage.DecryptError:
                failures.append("it was not encrypted to this key, or is damaged")
            except OSError as err:
                failures.append(err.strerror or "it cannot be read")

    reader = threading.Thread(target=decrypt, name="restore")
    reader.start()
    try:
        with os.fdopen(read_end, "rb") as pipe:
            return _unpack(pipe, into)
    except (tarfile.TarError, ValidationError, ValueError) as err:
        # A failed decryption ends the stream early; its own reason says more than that of tar.
        reader.join()
        raise InputError(failures[0] if failures else f"not a whole backup: {_why(err)}", where=str(path)) from None
    except OSError as err:
        raise unwritable(err, into) from err
    finally:
        reader.join()


def _why(err: Exception) -> str:
    return "its manifest cannot be read" if isinstance(err, ValidationError) else str(err)


def _unpack(pipe: IO[bytes], into: Path) -> Manifest:
    records: dict[str, FileRecord] = {}
    text = b""
    with tarfile.open(fileobj=pipe, mode="r|", bufsize=_BLOCK) as tar:
        # `extractall` is not used: names, kinds and links are checked one by one, as the file may come from anywhere.
        for info in tar:
            if info.issym() and _inside(info.name) and _is_beside(info.linkname):
                path = into / info.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.symlink_to(info.linkname)
                records[info.name] = FileRecord(size=0, sha256=hashlib.sha256().hexdigest(), link=info.linkname)
                continue
            content = tar.extractfile(info) if info.isreg() else None
            if content is None or not _inside(info.name) or _through_link(info.name, records):
                raise ValueError("it holds something that is not a file of a folder")
            if info.name == MANIFEST:
                # Bounded, as the size in an archive from elsewhere may be anything.
                text = content.read(_MANIFEST_BYTES)
                continue
            records[info.name] = _store(content, into / info.name, info)

    if not text:
        raise ValueError("it ends too early")
    manifest = Manifest.model_validate_json(text)
    if manifest.files != records:
        raise ValueError("its files are not those of its manifest")

    return manifest


def _store(content: IO[bytes], path: Path, info: tarfile.TarInfo) -> FileRecord:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, info.mode & 0o700 | 0o600), "wb") as file:
        while block := content.read(_BLOCK):
            digest.update(block)
            file.write(block)
        os.fsync(file.fileno())

    return FileRecord(size=info.size, sha256=digest.hexdigest())


def _inside(name: str) -> bool:
    """Whether a member stays in the folder: a relative path without `..`, as we write them."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name and name != "."


def _is_beside(target: str) -> bool:
    """Whether a link points to something in its own folder, by a plain name."""
    return bool(target) and "/" not in target and target not in {".", ".."}


def _through_link(name: str, records: dict[str, FileRecord]) -> bool:
    """Whether a folder on the way to a file was given as a link before."""
    return any(str(parent) in records for parent in PurePosixPath(name).parents)


def walk(root: Path, skipped: Callable[[PurePosixPath], bool]) -> Iterator[Source]:
    """All files below `root`, and links to something beside them, in order of their names; links are not followed."""
    for folder, below, names in os.walk(root):
        here = PurePosixPath(Path(folder).relative_to(root).as_posix())
        links = [name for name in below if (Path(folder) / name).is_symlink()]
        # In place: `os.walk` goes on into what is left in the list.
        below[:] = sorted(name for name in below if name not in links and not skipped(here / name))
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            is_inside = _is_beside(os.readlink(path)) if path.is_symlink() else path.is_file()
            if is_inside and not skipped(here / name):
                yield Source((here / name).as_posix(), path)


def age(created: datetime, now: datetime) -> str:
    """How long ago, in plain words."""
    hours = (now - created).total_seconds() / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
