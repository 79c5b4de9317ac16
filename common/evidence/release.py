"""A signed release: the digests of its files in one DSSE envelope, which the stand-alone verifier checks."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import EvidenceError, InputError
from common.evidence import dsse
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.schema import check_digest, check_sorted, check_text, check_time, decode, encode

RELEASE_FILE = "release.json"
RELEASE_TYPE = "application/vnd.fedforget.release+json"
SIGNER = "release"
"""Name under which the verifier is given the public key."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file of a release."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        # It becomes a path.
        if not _NAME.fullmatch(self.name):
            raise EvidenceError("files: not the name of a file")
        check_digest(self.sha256, "sha256")


@dataclass(frozen=True, slots=True)
class Release:
    """What was built, from which source, and when."""

    version: str
    commit: str
    built: str
    files: tuple[ReleaseFile, ...]

    def __post_init__(self) -> None:
        check_text(self.version, "version")
        check_time(self.built, "built")
        check_sorted(tuple(file.name for file in self.files), "files")
        if not _COMMIT.fullmatch(self.commit):
            raise EvidenceError("commit: not one")


def sign_release(folder: Path, version: str, commit: str, built: str, key: SigningKey) -> bytes:
    """The envelope about all files of a folder, for `release.json` in it.

    Raises:
        EvidenceError: the folder holds something that is not a plain file with a plain name.
    """
    files = tuple(ReleaseFile(path.name, _digest(path)) for path in _files(folder))
    release = Release(version, commit, built, files)
    return dsse.encode_envelope(dsse.sign(RELEASE_TYPE, encode(release), key))


def check_release(folder: Path, keys: PinnedKeys) -> Release:
    """The release in a folder, if its signature holds and every file is the one that was signed, and no other is there.

    Raises:
        EvidenceError: something does not hold.
        InputError: it cannot be read.
    """
    try:
        data = (folder / RELEASE_FILE).read_bytes()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=str(folder / RELEASE_FILE)) from None
    envelope = dsse.decode_envelope(data)
    dsse.verify(envelope, RELEASE_TYPE, keys, {SIGNER: 1})
    release = decode(Release, envelope.body)
    signed = {file.name: file.sha256 for file in release.files}
    here = {path.name: path for path in _files(folder)}

    if missing := sorted(signed.keys() - here.keys()):
        raise EvidenceError(f"missing: {', '.join(missing)}")
    if others := sorted(here.keys() - signed.keys()):
        raise EvidenceError(f"not part of the release: {', '.join(others)}")
    if changed := sorted(name for name, path in here.items() if _digest(path) != signed[name]):
        raise EvidenceError(f"changed since it was signed: {', '.join(changed)}")
    return release


def _files(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.name != RELEASE_FILE)
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=str(folder)) from None
    if odd := [path.name for path in paths if path.is_symlink() or not path.is_file()]:
        raise EvidenceError(f"not plain files: {', '.join(odd)}")
    return paths


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=str(path)) from None
