"""Further signatures on a statement, made offline by a person: a data steward or an evaluator."""

from __future__ import annotations

from common.errors import EvidenceError
from common.evidence import dsse, statements
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.outcomes.acceptance import accepted_by
from common.evidence.outcomes.grounds_text import outcome_text
from common.evidence.schema import rounded


def claims_of(statement: statements.Unlearning | statements.Revocation) -> tuple[str, ...]:
    """What a statement says, in plain words, for a person who is about to sign it or to rely on it."""
    if isinstance(statement, statements.Revocation):
        return _of_revocation(statement)
    until = statement.locked_until
    lock = [f"weights of earlier models are under lock until {until}"] if until else []
    decision = statement.decision
    acceptance = accepted_by(statement)
    figures = (
        f"{metric.name} = {rounded(metric.value)}, {metric.level} interval {rounded(metric.low)} to "
        f"{rounded(metric.high)}, "
        f"n = {metric.n}, reported by {metric.reported_by}"
        for metric in statement.metrics
    )

    return (
        f"campaign {statement.campaign}, issued {statement.issued}, answers {len(statement.revocations)} revocation(s)",
        f"method {statement.method.name}, seed {statement.method.seed}; then {statement.retention.rounds} "
        f"retention round(s) with {len(statement.retention.sites)} site(s)",
        f"decision: {outcome_text(decision.outcome, decision.grounds)}: {'; '.join(decision.reasons)}",
        *([] if statement.overruled is None else [statement.overruled.text]),
        *lock,
        *figures,
        *(() if acceptance is None else (*([acceptance.warning] if acceptance.warning else []), *acceptance.lines)),
    )


def _of_revocation(statement: statements.Revocation) -> tuple[str, ...]:
    return (
        f"{statement.kind} {statement.request} at {statement.site}, received by {statement.source}; "
        f"legal basis: {statement.legal_basis}",
        f"received {statement.received}, in force {statement.effective}, due {statement.due}",
        f"no longer usable: {', '.join(statement.modalities)}; policies: {', '.join(statement.policies) or 'all'}",
        f"requested by: {statement.requester}; identity check: {statement.identity_check}",
    )


def read_statement(envelope: dsse.Envelope) -> statements.Unlearning | statements.Revocation:
    """The statement in an envelope, of either type, or an `EvidenceError`. No signature is verified."""
    if envelope.payload_type != statements.PAYLOAD_TYPE:
        raise EvidenceError(f"payload type is {envelope.payload_type!r}, expected {statements.PAYLOAD_TYPE!r}")
    # The bytes are canonical, so the type stands there in this one spelling; the reader of that type checks the rest.
    if f'"predicateType":"{statements.REVOCATION_TYPE}"'.encode() in envelope.body:
        return statements.read_revocation(envelope.body)
    return statements.read_unlearning(envelope.body)[1]


def countersign(data: bytes, key: SigningKey) -> bytes:
    """The file of a statement with a signature by `key` added; a key that has already signed changes nothing.

    Raises:
        EvidenceError: this is not a statement in its canonical encoding.
    """
    envelope = dsse.decode_envelope(data)
    read_statement(envelope)
    # A person who signs twice changes nothing: ECDSA would add a different signature each time.
    if key.public.keyid in {signature.keyid for signature in envelope.signatures}:
        return data
    return dsse.encode_envelope(dsse.add_signature(envelope, key))


def with_signature_of(ours: dsse.Envelope, theirs: dsse.Envelope, key: PublicKey) -> dsse.Envelope:
    """`ours` with the signature by `key` from `theirs`, once that signature is verified.

    Raises:
        EvidenceError: `theirs` has no such signature, the signature does not hold, or it is on another statement.
    """
    addition = next((signature for signature in theirs.signatures if signature.keyid == key.keyid), None)
    if addition is None:
        raise EvidenceError(f"not signed by key {key.keyid}")
    # A signature is only taken over for the very bytes that were exported.
    if (theirs.payload, theirs.payload_type) != (ours.payload, ours.payload_type):
        raise EvidenceError("another statement than the one that was exported")
    signatures = {signature.keyid: signature for signature in (*ours.signatures, addition)}
    all_signatures = tuple(signatures[keyid] for keyid in sorted(signatures))
    # Verified alone: other signatures of the file may be by keys that are not known here.
    alone = dsse.Envelope(ours.payload, ours.payload_type, (addition,))
    dsse.verify(alone, ours.payload_type, PinnedKeys.of([("signer", key)]), {})

    return dsse.Envelope(ours.payload, ours.payload_type, all_signatures)
