"""`manifest.json` of a version: what it is, where it comes from, and the digests of its files."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from common.errors import EvidenceError
from common.evidence.outcomes.grounds import Grounds, Outcome
from common.settings import Settings

MANIFEST_FILE = "manifest.json"


class Metric(Settings):
    """A figure with its 95 % interval, and how many patients are behind it; no value has its reason."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    patients: int | None = None
    missing: str = ""


class Provenance(Settings):
    """How weights came about."""

    round: int
    """Round of the training or campaign that they were taken from."""
    run: int | None
    """Flower's run id, unsigned."""
    code: str
    """Version or digest of the code that ran."""
    config: str
    """Digest of the experiment's settings."""
    sites: tuple[str, ...]
    """Sites whose weights went into it."""
    metrics: tuple[Metric, ...] = ()
    outcome: Outcome | None = None
    """Of the campaign, if patients were forgotten by it; None also in manifests of earlier versions."""
    grounds: Grounds | None = None
    """What the outcome rests on."""


class Manifest(Settings):
    """The record of a version; it never changes, its state is in the database."""

    schema_version: Literal[1] = 1
    name: str
    created: datetime
    parent: str | None
    campaign: int | None
    weights: str
    """Digest of the weights, as of `state_digest`."""
    files: dict[str, str]
    """SHA-256 of each other file in the folder."""
    provenance: Provenance


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the files in a folder, without the manifest."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE}


def manifest_digest(folder: Path) -> str:
    """SHA-256 of the manifest of a version."""
    return sha256_of(folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version's folder.

    Raises:
        EvidenceError: missing, damaged, or of another version.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError):
        raise EvidenceError(f"{folder / MANIFEST_FILE}: missing or damaged") from None

    if manifest.name != folder.name:
        raise EvidenceError(f"{folder / MANIFEST_FILE}: is of version {manifest.name}")
    return manifest


def check_files(folder: Path, manifest: Manifest, digest: str) -> None:
    """Compare a version's folder with its record; `digest` is that of the manifest file.

    Raises:
        EvidenceError: a file is missing, changed, or does not belong there.
    """
    digests = {**manifest.files, MANIFEST_FILE: digest}

    try:
        file_names = {path.name for path in folder.iterdir()}
        # A file too many counts too: whoever loads the folder might load that one.
        if odd := sorted(file_names ^ digests.keys()):
            raise EvidenceError(
                f"{folder / odd[0]}: {'does not belong there' if odd[0] in file_names else 'is missing'}"
            )
        for name, digest_on_record in digests.items():
            if sha256_of(folder / name) != digest_on_record:
                raise EvidenceError(f"{folder / name}: changed since it was published")
    except OSError as err:
        raise EvidenceError(f"{folder}: cannot be read: {err.strerror or err}") from None
