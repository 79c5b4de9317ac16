from __future__ import annotations

import dataclasses

import pytest
from evidence_files import Evidence, a_revocation

from common.errors import EvidenceError
from common.evidence import dsse, statements
from common.evidence.countersignature import claims_of, countersign, read_statement, with_signature_of
from common.evidence.keys import PinnedKeys, SigningKey

EVALUATOR = SigningKey.generate()


def test_a_signature_is_added_below_those_that_are_there_and_only_once(evidence: Evidence) -> None:
    signed = countersign(evidence.attestation, EVALUATOR)
    pinned = PinnedKeys((*evidence.pinned.entries, ("evaluator", EVALUATOR.public)))
    envelope = dsse.decode_envelope(signed)
    assert dsse.verify(envelope, statements.PAYLOAD_TYPE, pinned, {}) == ("evaluator", "server", "site")
    assert countersign(signed, EVALUATOR) == signed


def test_nothing_but_a_statement_is_signed(evidence: Evidence) -> None:
    for data in (
        dsse.encode_envelope(evidence.checkpoint),
        dsse.encode_envelope(dsse.sign(statements.PAYLOAD_TYPE, b"{}", evidence.site)),
        evidence.attestation + b"\n",
        b"",
    ):
        with pytest.raises(EvidenceError):
            countersign(data, EVALUATOR)


def test_what_is_about_to_be_signed_is_said_in_plain_words(evidence: Evidence) -> None:
    claims = " ".join(claims_of(read_statement(dsse.decode_envelope(evidence.revocation))))
    for words in (
        "at site-1, received by fhir; legal basis: GDPR 7(3)",
        "received 2026-11-02T08:14:00Z",
        "images, reports",
        "policies: all",
    ):
        assert words in claims

    claims = " ".join(claims_of(read_statement(dsse.decode_envelope(evidence.attestation))))
    assert "decision: Accepted (`accepted`)" in claims
    assert "policies: a, b" in " ".join(claims_of(a_revocation(policies=("a", "b"))))


def test_a_signature_is_taken_over_only_if_it_holds_and_is_below_the_same_statement(evidence: Evidence) -> None:
    ours = dsse.decode_envelope(evidence.attestation)
    theirs = dsse.decode_envelope(countersign(evidence.attestation, EVALUATOR))
    merged = with_signature_of(ours, theirs, EVALUATOR.public)
    assert merged == theirs
    assert with_signature_of(merged, theirs, EVALUATOR.public) == merged
    with pytest.raises(EvidenceError, match="not signed by key"):
        with_signature_of(ours, ours, EVALUATOR.public)
    other = dsse.sign(statements.PAYLOAD_TYPE, b"{}", EVALUATOR)
    with pytest.raises(EvidenceError, match="another statement"):
        with_signature_of(ours, other, EVALUATOR.public)
    forged = dsse.Signature(EVALUATOR.public.keyid, other.signatures[0].sig)
    with pytest.raises(EvidenceError, match="does not fit"):
        with_signature_of(ours, dataclasses.replace(ours, signatures=(forged,)), EVALUATOR.public)
