"""The files for an auditor: an attestation, and the proof that it stands in a log which the hospitals know too."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from common.errors import UnavailableError
from common.evidence import dsse, statements
from common.evidence.keys import PublicKey
from common.evidence.log.log_bundle import LeavesBundle, ProofBundle, make_proof_bundle
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode, encode
from common.files import write_bytes
from common.platform.event_log.store import EventLog, only, signed_by
from common.platform.new_folder import new_folder
from server.attestation.attestation import Standing, find
from server.database import SiteRow

ATTESTATION_FILE = "attestation.json"
BUNDLE_FILE = "bundle.json"


def export(
    session: Session, log: EventLog, standing: Standing, server: PublicKey, folder: Path, *, whole: bool = False
) -> list[str]:
    """Write `attestation.json`, and `bundle.json` once a hospital has co-signed the log; the names of what was written.

    With `whole` the bundle shows all leaves, which can be compared with any checkpoint that a hospital holds.

    Raises:
        UnavailableError: the attestation is not written yet.
        OutputError: the folder has content, or cannot be written.
    """
    if standing.envelope is None:
        raise UnavailableError(f"campaign {standing.campaign}: the attestation {standing.text}")
    bundle = proof(session, log, standing, server)
    with new_folder(folder) as part:
        write_bytes(part / ATTESTATION_FILE, dsse.encode_envelope(standing.envelope))
        if bundle is not None:
            write_bytes(part / BUNDLE_FILE, encode(_with_leaves(log, session, bundle) if whole else bundle))

    return [ATTESTATION_FILE] if bundle is None else [ATTESTATION_FILE, BUNDLE_FILE]


def proof(session: Session, log: EventLog, standing: Standing, server: PublicKey) -> ProofBundle | None:
    """Proofs under the newest checkpoint that a signer of the attestation has co-signed; None if there is none yet."""
    leaf = log.opened(session, f"attestation:{standing.campaign}")
    if leaf is None or standing.envelope is None:
        return None
    rows = (session.get(SiteRow, name) for name in standing.signers)
    peers = [PublicKey.from_pem(row.signing_key.encode()) for row in rows if row is not None]

    # Without a hospital's signature a coordinator could show each auditor another log.
    for envelope in log.checkpoints(session):
        size = decode(Checkpoint, envelope.body).size
        both = signed_by(envelope, server) and any(signed_by(envelope, peer) for peer in peers)

        if size > leaf.position and both:
            leaves = log.leaves(session)[:size]
            since = statements.read_unlearning(standing.envelope.body)[1].log
            # Without the signatures of hospitals that have none in the attestation, whose keys an auditor may lack.
            checkpoint = only(envelope, server, *peers)
            return make_proof_bundle(checkpoint, leaves, leaf.position, leaf.salt, since)

    return None


def add_to(session: Session, campaign: int | None, folder: Path) -> bool:
    """Write the attestation of a version's campaign into the version's exported folder; whether there is one.

    Raises:
        OutputError: the folder cannot be written.
    """
    standing = None if campaign is None else find(session, campaign)
    if standing is None or standing.envelope is None:
        return False
    write_bytes(folder / ATTESTATION_FILE, dsse.encode_envelope(standing.envelope))

    return True


def _with_leaves(log: EventLog, session: Session, bundle: ProofBundle) -> LeavesBundle:
    size = decode(Checkpoint, bundle.checkpoint.body).size
    leaves = tuple(decode(Entry, leaf) for leaf in log.leaves(session)[:size])
    return LeavesBundle(bundle.checkpoint, bundle.salt, leaves)
