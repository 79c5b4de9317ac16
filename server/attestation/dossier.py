"""The coordinator's dossier about a version: statements, proofs, keys, recipients, counts. It names no patient.

It needs no signing key: everything in it was signed before.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from common.evidence import dsse, statements
from common.evidence.keys import PublicKey
from common.evidence.outcomes.grounds_text import grounds_lines, outcome_text
from common.evidence.schema import encode
from common.evidence.statements import Unlearning
from common.platform.dossier.archive import Content, as_json
from common.platform.dossier.page import Section, minute
from common.platform.event_log.check import own_key
from common.platform.event_log.report import export as export_log
from common.platform.event_log.store import EventLog, signed_by
from server.attestation import dossier_facts
from server.attestation.attestation import Standing, find
from server.attestation.export import ATTESTATION_FILE, BUNDLE_FILE, proof
from server.database import SiteRow
from server.registry.versions import Version

SERVER_FILE = "server.pub"
_EVALUATOR_FILE = "evaluator.pub"


def content_of(session: Session, log: EventLog, name: str, evaluator: PublicKey | None) -> Content:
    """What the dossier about a version says; `assemble` makes the archive of it. It changes nothing.

    Raises:
        InputError: there is no such version, or the log is empty.
    """
    lineage = dossier_facts.predecessors(session, name)
    version = lineage[0]
    server = own_key(log, session)
    standing = None if version.campaign is None else find(session, version.campaign)
    envelope = None if standing is None else standing.envelope
    unlearning = None if envelope is None else statements.read_unlearning(envelope.body)[1]
    copies = dossier_facts.recipients(session, [one.name for one in lineage])
    deletions = dossier_facts.deletions(lineage, copies)
    training = dossier_facts.training_counts(
        session, version, None if unlearning is None else len(unlearning.revocations)
    )
    events = dossier_facts.events(session, lineage)
    keys = _keys(session, version, copies, standing)
    if evaluator is not None:
        keys[_EVALUATOR_FILE] = evaluator

    files = {
        **_log_files(log, session, server),
        **{name: key.pem for name, key in keys.items()},
        "version.json": as_json(dossier_facts.version_facts(version, lineage)),
        "recipients.json": as_json(copies),
        "deletions.json": as_json(deletions),
        "training.json": as_json(training),
        "events.json": as_json(events),
    }
    missing = {} if standing is not None else {ATTESTATION_FILE: "no campaign made anybody forgotten by this version"}
    command = ""

    if standing is None or envelope is None:
        if standing is not None:
            missing[ATTESTATION_FILE] = standing.text
        missing[BUNDLE_FILE] = "it proves where the attestation stands in the log, and there is none"
    else:
        files[ATTESTATION_FILE] = dsse.encode_envelope(envelope)
        bundle = proof(session, log, standing, server)
        if bundle is None:
            missing[BUNDLE_FILE] = "no hospital has co-signed the log since: make the dossier again in a minute"
        else:
            files[BUNDLE_FILE] = encode(bundle)
        pinned_keys = {SERVER_FILE: server, **keys}
        missing |= _unknown_keys(envelope, pinned_keys)
        command = _command(envelope, pinned_keys, with_log=bundle is not None)

    return Content(
        side="coordinator",
        title=f"Dossier of model version {version.name}",
        lead=_lead(version, standing),
        files=files,
        sections=_sections(version, unlearning, copies, deletions, training, events),
        figures=dossier_facts.figures(version),
        limits=() if unlearning is None else unlearning.limits,
        missing=missing,
        command=command,
    )


def _log_files(log: EventLog, session: Session, server: PublicKey) -> dict[str, bytes]:
    # `export_log` writes a folder, and the archive takes bytes.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "log"
        return {name: (folder / name).read_bytes() for name in export_log(log, session, server, "server", folder)}


def _keys(
    session: Session, version: Version, copies: Sequence[Mapping[str, Any]], standing: Standing | None
) -> dict[str, PublicKey]:
    """The public keys of all hospitals that the dossier names, by file."""
    names = {*version.manifest.provenance.sites, *(copy["site"] for copy in copies if copy["site"] is not None)}
    names |= set() if standing is None else set(standing.signers)
    rows = (session.get(SiteRow, name) for name in sorted(names))

    return {f"site-{row.name}.pub": PublicKey.from_pem(row.signing_key.encode()) for row in rows if row is not None}


def _unknown_keys(envelope: dsse.Envelope, keys: Mapping[str, PublicKey]) -> dict[str, str]:
    keyids = {key.keyid for key in keys.values()}
    return {
        f"public key {signature.keyid}": "it signed the attestation, and its owner has another key now: ask the owner"
        for signature in envelope.signatures
        if signature.keyid not in keyids
    }


def _command(envelope: dsse.Envelope, keys: Mapping[str, PublicKey], *, with_log: bool) -> str:
    signers = {name: key for name, key in keys.items() if signed_by(envelope, key)}
    words = ["python verify.pyz", ATTESTATION_FILE, *([f"--log {BUNDLE_FILE}"] if with_log else [])]
    words += [f"--key {name.removesuffix('.pub')}={name}" for name in signers]
    words += [f"--require {name.removesuffix('.pub')}" for name in signers]

    return " ".join(words)


def _lead(version: Version, standing: Standing | None) -> list[str]:
    origin = version.manifest.provenance
    lines = [
        f"{version.name} was published on {version.created:%Y-%m-%d} and is {version.state} since "
        f"{version.state_since:%Y-%m-%d}. Its parent is {version.parent or 'none'}.",
        "It contains no patient identifier: statements name revocations by digest, and data appear as counts.",
    ]
    if standing is not None:
        lines.append(f"Attestation of campaign {standing.campaign}: {standing.text}.")
    if origin.outcome is not None:
        lines.append(f"Outcome: {outcome_text(origin.outcome, origin.grounds)}.")

    return lines


def _sections(
    version: Version,
    said: Unlearning | None,
    copies: Sequence[Mapping[str, Any]],
    deleted: Mapping[str, Any],
    training: Mapping[str, Any],
    happened: Sequence[Mapping[str, Any]],
) -> list[Section]:
    origin = version.manifest.provenance
    here, there = deleted["at_the_coordinator"], deleted["copies_at_hospitals"]
    export_counts = deleted["exported_copies"]
    sections = []
    if origin.outcome is not None:
        sections.append(Section("What the outcome rests on", grounds_lines(origin.outcome, origin.grounds)))
    if said is not None:
        decision = [*said.decision.reasons, *([] if said.overruled is None else [said.overruled.text])]
        answer_line = f"Revocations answered: {len(said.revocations)}; method: {said.method.name}."
        sections.append(Section("What the attestation says", (answer_line, *decision, "File: attestation.json.")))

    kinds = sorted(Counter(str(event["kind"]) for event in happened).items())
    counts = [(row["site"], row["train_studies"]) for row in training["sites"]]
    copy_rows = [
        (copy["version"], copy["kind"], copy["name"], minute(copy["sent"]), minute(copy["deletion_acknowledged"]))
        for copy in copies
    ]
    version_rows = [
        (row["version"], row["state"], minute(row["since"]), minute(row["deleted"])) for row in here["versions"]
    ]
    copies_line = (
        f"Copies at hospitals of versions out of use: {there['to_be_deleted']}; deletion acknowledged: "
        f"{there['acknowledged']}; not acknowledged: {there['not_acknowledged']}. Exported copies of such versions: "
        f"{export_counts['to_be_deleted']}; not acknowledged: {export_counts['not_acknowledged']}. "
        "File: deletions.json."
    )
    studies = "not known of every hospital" if training["train_studies"] is None else training["train_studies"]
    total = f"Training studies in all: {studies}. File: training.json."

    return [
        *sections,
        Section("Training data as counts", (total,), ("hospital", "training studies"), counts),
        Section(
            "Recipients and their acknowledgements",
            ("This version and those that it descends from or replaces. File: recipients.json.",),
            ("version", "kind", "recipient", "sent", "deletion acknowledged"),
            copy_rows,
        ),
        Section("Deletions", (copies_line,), ("version", "state", "since", "weights deleted here"), version_rows),
        Section("Recorded events", ("File: events.json; the log: leaves.jsonl.",), ("kind", "number"), kinds),
    ]
