"""The evaluator: a named party who checks an attestation independently and signs it below coordinator and hospitals."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.countersignature import with_signature_of
from common.evidence.keys import PublicKey
from common.platform.event_log.store import Clock
from common.platform.keys.private_keys import read_public_key
from server.database import AttestationRow, EventRow
from server.settings import ServerFolder


def evaluator_key(folder: ServerFolder) -> PublicKey | None:
    """Whom `server.toml` names as the evaluator; None if nobody.

    Raises:
        InputError: the file it names is not a public key.
    """
    key_file = folder.settings().evaluator_key
    if not key_file:
        return None
    return read_public_key(folder.root / key_file, "evaluator_key in server.toml")


def accept(session: Session, data: bytes, evaluator: PublicKey, clock: Clock) -> int:
    """Add the evaluator's signature to the attestation that it was given for, and return the campaign.

    Raises:
        EvidenceError: it does not hold, or is not below an attestation of this coordinator.
    """
    envelope = dsse.decode_envelope(data)
    query = select(AttestationRow).where(AttestationRow.envelope != "").with_for_update()

    for row in session.scalars(query):
        ours = dsse.decode_envelope(row.envelope.encode())
        # By the bytes that were signed, which the evaluator cannot have changed.
        if ours.payload != envelope.payload:
            continue
        envelope_with_both = with_signature_of(ours, envelope, evaluator)
        if envelope_with_both != ours:
            row.envelope = dsse.encode_envelope(envelope_with_both).decode()
            detail = f"{row.version}: signed by the evaluator"
            session.add(EventRow(at=clock(), campaign=row.campaign, kind="attested", detail=detail))

        return row.campaign

    raise EvidenceError("not an attestation of this coordinator, or changed since it was exported")


def state(envelope: dsse.Envelope | None, evaluator: PublicKey | None) -> str:
    """Whether the evaluator has signed, in a few words."""
    if evaluator is None:
        return "none named in server.toml"
    is_signed = envelope is not None and evaluator.keyid in {signature.keyid for signature in envelope.signatures}
    return "has signed" if is_signed else "has not signed yet"
