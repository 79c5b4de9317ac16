"""Puts a dossier together: what both sides' dossiers have in common, the PDF, the digests, and one ZIP."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common.errors import OutputError
from common.evidence.stand_alone import verifier_archive
from common.files import write_durable
from common.platform.dossier.attacks import Figure, attacks_of, limits_of
from common.platform.dossier.duties import Side, duties_of
from common.platform.dossier.page import Section, as_page
from common.platform.dossier.pdf import as_pdf

SUMS = "SHA256SUMS"
_PACKED_AT = (1980, 1, 1, 0, 0, 0)
_README = """\
{title}
{lead}

Start with dossier.pdf. duties.json says which file answers which duty; {sums} has the SHA-256 of every file
(`sha256sum --check {sums}`).

Check the statements, with Python and its package `cryptography` alone:
  {command}

Compare the public keys with those that the parties give you themselves: whoever made this archive chose these.

{missing}"""
_NOTHING_TO_CHECK = "there is no attestation in this dossier; see below"


@dataclass(frozen=True, slots=True)
class Content:
    """What is particular to one dossier.

    Attributes:
        side: whose dossier it is.
        title, lead: of the PDF and the README.
        files: by name; none identifies a patient.
        sections: of the PDF, before those that every dossier has.
        figures: of the audit.
        limits: that the attestation states.
        missing: files that are not there, and why.
        command: checks the statements; empty without an attestation.
    """

    side: Side
    title: str
    lead: Sequence[str]
    files: Mapping[str, bytes]
    sections: Sequence[Section]
    figures: Sequence[Figure]
    limits: Sequence[str]
    missing: Mapping[str, str]
    command: str


def assemble(content: Content) -> bytes:
    """The archive; the same content makes the same bytes.

    Raises:
        ConfigError: WeasyPrint is not installed.
    """
    attacks = attacks_of(content.figures)
    limits = limits_of(content.limits)
    files = {**content.files, "attacks.json": as_json(attacks), "limits.json": as_json(limits)}
    # After the other files, as it says which of them are here.
    duties = duties_of(content.side, files, content.missing)
    files["duties.json"] = as_json(duties)
    page = as_page(content.title, content.lead, [*content.sections, *_common(attacks, limits, duties, content)])
    files["dossier.pdf"] = as_pdf(page)
    files["verify.pyz"] = verifier_archive()
    files["README.txt"] = _README.format(
        title=content.title,
        lead="\n".join(content.lead),
        sums=SUMS,
        command=content.command or _NOTHING_TO_CHECK,
        missing="".join(f"Not included: {name}: {why}.\n" for name, why in sorted(content.missing.items())),
    ).encode()

    return packed(files)


def packed(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of these files and their digests, in the order of their names and without times."""
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in sorted(files.items()))
    buffer = io.BytesIO()

    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in sorted({**files, SUMS: sums.encode()}.items()):
            # A fixed time, the earliest that ZIP knows: the same content makes the same bytes.
            archive.writestr(zipfile.ZipInfo(name, _PACKED_AT), body, zipfile.ZIP_DEFLATED)

    return buffer.getvalue()


def write_new(path: Path, archive: bytes) -> list[str]:
    """Write an archive whole or not at all, readable by its owner alone; the names in it.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    refuse_existing(path)
    write_durable(path, archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as zip_file:
        return zip_file.namelist()


def refuse_existing(path: Path) -> None:
    """Raises:
    OutputError: the file exists.
    """
    if path.exists() or path.is_symlink():
        raise OutputError("exists already", where=str(path), remedy="nothing is overwritten: choose another file")


def as_json(value: object) -> bytes:
    """Indented JSON; times in ISO 8601."""
    return (json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n").encode()


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _common(
    attacks: Mapping[str, Any], limits: Mapping[str, Any], duties: Sequence[Mapping[str, Any]], content: Content
) -> list[Section]:
    figures = [(one["figure"], one["value"], " to ".join(one["interval95"]), one["patients"]) for one in attacks["run"]]
    not_run = [(one["attack"], one["why"]) for one in attacks["not_run"]]
    mapping = [(one["law"], one["duty"], _files(one)) for one in duties]
    absent = sorted(content.missing.items())

    return [
        Section("Attacks that were run", ("File: attacks.json.",), ("figure", "value", "95 %", "patients"), figures),
        Section("Attacks that were not run", (), ("attack", "why not"), not_run),
        Section("Limits", (*limits["stated_in_the_attestation"], *limits["of_every_dossier"])),
        Section("Duties and files", (), ("law", "duty", "files here"), mapping),
        Section("Files that are not here", (), ("file", "why"), absent),
        Section(
            "How to check",
            (
                content.command or _NOTHING_TO_CHECK,
                f"{SUMS} has the digest of every file. Compare the public keys with those that the parties give you.",
            ),
        ),
    ]


def _files(duty: Mapping[str, Any]) -> str:
    absent = (f"{name} (not here)" for name in duty["absent"])
    return ", ".join((*duty["files"], *absent))
