"""Tampering: whatever one changes in a file of evidence, the verifier says so."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import random
from collections.abc import Iterator, Sequence

import pytest
from evidence_files import MODEL, Evidence, a_revocation, make_evidence

from common.evidence import dsse, statements
from common.evidence.examination import Examination, examine
from common.evidence.findings import Outcome
from common.evidence.key_history import KeyHistory
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log.log_bundle import make_proof_bundle
from common.evidence.log.log_checkpoint import cosign, sign_checkpoint
from common.evidence.log.log_findings import log_findings
from common.evidence.log.tree_log import replay
from common.evidence.schema import encode


def fails_in_log(evidence: Evidence, bundle: bytes, *peers: bytes) -> set[str]:
    """What fails of the log alone, for thousands of changes; the attestation is whole."""
    findings = log_findings(evidence.statement, said(evidence.statement), evidence.pinned, bundle, peers)
    return {finding.subject for finding in findings if finding.outcome is Outcome.FAILS}


@functools.cache
def said(statement: bytes) -> statements.Unlearning:
    return statements.read_unlearning(statement)[1]


def outcome(result: Examination, subject: str) -> Outcome:
    (found,) = [finding.outcome for finding in result.findings if finding.subject == subject]
    return found


def with_another_value(data: bytes, position: int, change: int) -> bytes:
    return data[:position] + bytes([data[position] ^ change]) + data[position + 1 :]


def damaged(data: bytes) -> Iterator[bytes]:
    """Every byte in the other letter case and with another value; some dropped, doubled or added.

    The slow test tries all values of all bytes.
    """
    chosen = random.Random(4)
    for position in range(len(data)):
        for change in (0x20, chosen.randrange(1, 256)):
            yield with_another_value(data, position, change)

    for position in range(0, len(data), 5):
        yield data[:position] + data[position + 1 :]
        yield data[:position] + data[position : position + 1] + data[position:]

    yield from (data + b"\n", data + b"\0", b" " + data, b"\xef\xbb\xbf" + data, b"")


@pytest.fixture(scope="module")
def peer_checkpoint(evidence: Evidence) -> bytes:
    return dsse.encode_envelope(evidence.checkpoint)


def test_whole_evidence_holds_and_says_what_it_does_not_show(evidence: Evidence, peer_checkpoint: bytes) -> None:
    models = {"model.safetensors": hashlib.sha256(MODEL).hexdigest()}
    for bundle in (evidence.bundle, evidence.whole_log):
        result = examine(
            evidence.attestation,
            evidence.pinned,
            bundle=bundle,
            peer_checkpoints=[peer_checkpoint],
            models=models,
            revocations=[evidence.revocation],
        )
        assert result.holds
        not_checked = [f.subject for f in result.findings if f.outcome is Outcome.NOT_CHECKED]
        assert not_checked == ["evaluator"]
        assert len(result.findings) == 7
        said = " ".join(result.limits)
        assert "self-reported" in said
        assert "not a proof" in said
        assert "loss-based attacks only" in said
        assert any("mia.fused.auc = 0.51, 0.90 interval 0.43 to 0.59, n = 20" in claim for claim in result.claims)


def test_what_was_not_given_is_said_to_be_not_checked(evidence: Evidence) -> None:
    result = examine(evidence.attestation, evidence.pinned)
    assert result.holds
    for subject in ("evaluator", "model files", "revocations", "log"):
        assert outcome(result, subject) is Outcome.NOT_CHECKED


def test_every_changed_byte_of_an_attestation_is_caught(evidence: Evidence) -> None:
    for data in damaged(evidence.attestation):
        result = examine(data, evidence.pinned)
        assert not result.holds
        assert not result.claims


def test_every_changed_byte_of_a_proof_bundle_is_caught(evidence: Evidence) -> None:
    assert fails_in_log(evidence, evidence.bundle) == set()
    for data in damaged(evidence.bundle):
        assert fails_in_log(evidence, data) == {"log"}


def test_every_changed_byte_of_a_whole_log_is_caught(evidence: Evidence) -> None:
    assert fails_in_log(evidence, evidence.whole_log) == set()
    for data in damaged(evidence.whole_log):
        assert fails_in_log(evidence, data) == {"log"}


def test_every_changed_byte_of_a_peers_checkpoint_is_caught(evidence: Evidence, peer_checkpoint: bytes) -> None:
    changed = list(damaged(peer_checkpoint))
    failing = fails_in_log(evidence, evidence.bundle, peer_checkpoint, *changed)
    assert failing == {f"peer's checkpoint {number}" for number in range(2, len(changed) + 2)}


@pytest.mark.slow
def test_every_byte_of_every_file_changed_to_every_other_value_is_caught(
    evidence: Evidence, peer_checkpoint: bytes
) -> None:
    for position in range(len(evidence.attestation)):
        for change in range(1, 256):
            assert not examine(with_another_value(evidence.attestation, position, change), evidence.pinned).holds

    for position in range(len(peer_checkpoint)):
        changed = [with_another_value(peer_checkpoint, position, change) for change in range(1, 256)]
        assert len(fails_in_log(evidence, evidence.bundle, *changed)) == len(changed)

    for bundle in (evidence.bundle, evidence.whole_log):
        for position in range(len(bundle)):
            for change in range(1, 256):
                assert fails_in_log(evidence, with_another_value(bundle, position, change)) == {"log"}


def test_a_changed_byte_anywhere_in_a_large_log_is_caught() -> None:
    large = make_evidence(SigningKey.generate(), SigningKey.generate(), more_leaves=300)
    assert fails_in_log(large, large.whole_log) == set()
    chosen = random.Random(5)
    for _ in range(12):
        changed = with_another_value(large.whole_log, chosen.randrange(len(large.whole_log)), chosen.randrange(1, 256))
        assert fails_in_log(large, changed) == {"log"}


def test_every_changed_byte_of_a_revocation_is_caught(evidence: Evidence) -> None:
    changed = list(damaged(evidence.revocation))
    result = examine(evidence.attestation, evidence.pinned, revocations=[evidence.revocation, *changed])
    assert outcome(result, "revocation 1") is Outcome.HOLDS
    assert [finding.outcome for finding in result.findings].count(Outcome.FAILS) == len(changed)


def test_another_model_file_is_caught(evidence: Evidence) -> None:
    result = examine(evidence.attestation, evidence.pinned, models={"old": hashlib.sha256(b"old").hexdigest()})
    assert outcome(result, "model file old") is Outcome.FAILS


def test_a_revocation_that_is_not_answered_is_caught(evidence: Evidence) -> None:
    other = statements.revocation_statement(a_revocation(request="another"))
    data = dsse.encode_envelope(dsse.sign(statements.PAYLOAD_TYPE, other, evidence.site))
    result = examine(evidence.attestation, evidence.pinned, revocations=[data])
    assert outcome(result, "revocation 1") is Outcome.FAILS


def test_a_bundle_cannot_bring_its_own_keys(evidence: Evidence) -> None:
    strangers = make_evidence(SigningKey.generate(), SigningKey.generate())
    assert examine(strangers.attestation, strangers.pinned, bundle=strangers.bundle).holds
    assert not examine(strangers.attestation, evidence.pinned, bundle=strangers.bundle).holds
    assert not examine(evidence.attestation, evidence.pinned, bundle=strangers.bundle).holds


def test_an_evaluator_who_signed_is_named(evidence: Evidence) -> None:
    evaluator = SigningKey.generate()
    pinned = PinnedKeys((*evidence.pinned.entries, ("evaluator", evaluator.public)))
    envelope = dsse.add_signature(dsse.decode_envelope(evidence.attestation), evaluator)
    result = examine(dsse.encode_envelope(envelope), pinned, {"site": 1, "server": 1, "evaluator": 1})
    assert outcome(result, "evaluator") is Outcome.HOLDS
    assert not examine(evidence.attestation, pinned, {"site": 1, "server": 1, "evaluator": 1}).holds


def test_a_checkpoint_that_one_party_signed_alone_is_not_enough(evidence: Evidence) -> None:
    alone = sign_checkpoint(replay("site-1", evidence.leaves).checkpoint, evidence.site)
    bundle = encode(dataclasses.replace(evidence.proofs, checkpoint=alone))
    result = examine(evidence.attestation, evidence.pinned, bundle=bundle)
    assert outcome(result, "log") is Outcome.HOLDS
    assert outcome(result, "log checkpoint") is Outcome.FAILS


def bundle_of(evidence: Evidence, leaves: Sequence[bytes]) -> bytes:
    checkpoint = sign_checkpoint(replay("site-1", leaves).checkpoint, evidence.site)
    both = cosign(checkpoint, evidence.server, evidence.pinned, "site", None, ())
    salt = bytes.fromhex(evidence.proofs.salt)
    return encode(make_proof_bundle(both, leaves, 5, salt, evidence.since))


def test_a_log_cut_short_after_a_peer_signed_it_is_caught(evidence: Evidence, peer_checkpoint: bytes) -> None:
    shorter = bundle_of(evidence, evidence.leaves[:8])
    assert examine(evidence.attestation, evidence.pinned, bundle=shorter).holds
    result = examine(evidence.attestation, evidence.pinned, bundle=shorter, peer_checkpoints=[peer_checkpoint])
    assert outcome(result, "peer's checkpoint 1") is Outcome.FAILS


@pytest.mark.parametrize("whole", [False, True])
def test_a_bundle_that_is_older_than_the_peers_checkpoint_is_to_be_asked_for_again(
    evidence: Evidence, whole: bool
) -> None:
    later = replay("site-1", (*evidence.leaves, evidence.leaves[0])).checkpoint
    peer = dsse.encode_envelope(sign_checkpoint(later, evidence.server))
    bundle = evidence.whole_log if whole else evidence.bundle
    result = examine(evidence.attestation, evidence.pinned, bundle=bundle, peer_checkpoints=[peer])
    (finding,) = [finding for finding in result.findings if finding.subject == "peer's checkpoint 1"]
    assert finding.outcome is Outcome.FAILS
    assert "or the bundle is old; ask for a current one" in finding.reason


def test_a_log_forked_after_a_peer_signed_it_is_caught(evidence: Evidence, peer_checkpoint: bytes) -> None:
    fork = bundle_of(evidence, (*evidence.leaves[:-1], evidence.leaves[0]))
    assert examine(evidence.attestation, evidence.pinned, bundle=fork).holds
    result = examine(evidence.attestation, evidence.pinned, bundle=fork, peer_checkpoints=[peer_checkpoint])
    assert outcome(result, "peer's checkpoint 1") is Outcome.FAILS


def test_a_log_rewritten_before_the_attested_checkpoint_is_caught(evidence: Evidence) -> None:
    rewritten = (evidence.leaves[1], *evidence.leaves[1:])
    result = examine(evidence.attestation, evidence.pinned, bundle=bundle_of(evidence, rewritten))
    assert outcome(result, "log") is Outcome.FAILS


def test_an_older_checkpoint_of_a_peer_is_compared_where_the_bundle_allows(evidence: Evidence) -> None:
    def seen(leaves: Sequence[bytes]) -> bytes:
        return dsse.encode_envelope(sign_checkpoint(replay("site-1", leaves).checkpoint, evidence.server))

    def of_peer(bundle: bytes, leaves: Sequence[bytes]) -> Outcome:
        result = examine(evidence.attestation, evidence.pinned, bundle=bundle, peer_checkpoints=[seen(leaves)])
        return outcome(result, "peer's checkpoint 1")

    swapped = (evidence.leaves[1], evidence.leaves[0])
    assert of_peer(evidence.bundle, evidence.leaves[:5]) is Outcome.HOLDS
    assert of_peer(evidence.bundle, (*swapped, *evidence.leaves[2:5])) is Outcome.FAILS
    assert of_peer(evidence.bundle, evidence.leaves[:2]) is Outcome.NOT_CHECKED
    assert of_peer(evidence.whole_log, evidence.leaves[:2]) is Outcome.HOLDS
    assert of_peer(evidence.whole_log, swapped) is Outcome.FAILS


@pytest.mark.parametrize("whole", [False, True])
def test_a_checkpoint_that_the_owner_alone_signed_is_no_peers(evidence: Evidence, whole: bool) -> None:
    own = dsse.encode_envelope(sign_checkpoint(replay("site-1", evidence.leaves[:5]).checkpoint, evidence.site))
    bundle = evidence.whole_log if whole else evidence.bundle
    result = examine(evidence.attestation, evidence.pinned, bundle=bundle, peer_checkpoints=[own])
    assert outcome(result, "peer's checkpoint 1") is Outcome.FAILS
    assert not result.holds


def test_a_checkpoint_of_another_log_is_not_taken_for_this_one(evidence: Evidence) -> None:
    other = dsse.encode_envelope(sign_checkpoint(replay("site-2", evidence.leaves).checkpoint, evidence.server))
    for bundle in (evidence.bundle, evidence.whole_log):
        result = examine(evidence.attestation, evidence.pinned, bundle=bundle, peer_checkpoints=[other])
        assert outcome(result, "peer's checkpoint 1") is Outcome.FAILS


def test_a_history_answers_with_the_keys_of_the_time_of_issue(evidence: Evidence) -> None:
    history = KeyHistory().add("site", evidence.site.public, "2026-01-01T00:00:00Z")
    history = history.add("server", evidence.server.public, "2026-01-01T00:00:00Z")
    assert examine(evidence.attestation, history, bundle=evidence.bundle, revocations=[evidence.revocation]).holds
    rotated = history.rotate(evidence.site.public, SigningKey.generate().public, "2026-11-20T10:00:01Z")
    assert examine(evidence.attestation, rotated).holds
    too_early = history.rotate(evidence.site.public, SigningKey.generate().public, "2026-11-20T10:00:00Z")
    assert not examine(evidence.attestation, too_early).holds


def test_what_is_signed_after_the_time_in_it_may_be_signed_with_a_newer_key(evidence: Evidence) -> None:
    newer = SigningKey.generate()
    older = SigningKey.generate()
    history = KeyHistory().add("server", evidence.server.public, "2026-01-01T00:00:00Z")
    history = history.add("site", newer.public, "2026-12-01T00:00:00Z")
    by_newer = dsse.sign(statements.PAYLOAD_TYPE, evidence.statement, newer, evidence.server)
    request = dsse.sign(statements.PAYLOAD_TYPE, dsse.decode_envelope(evidence.revocation).body, newer)
    assert examine(dsse.encode_envelope(by_newer), history, revocations=[dsse.encode_envelope(request)]).holds
    ended = history.add("site", older.public, "2026-01-01T00:00:00Z").revoke(older.public, "2026-11-01T00:00:00Z")
    by_older = dsse.sign(statements.PAYLOAD_TYPE, evidence.statement, older, evidence.server)
    assert not examine(dsse.encode_envelope(by_older), ended).holds


def test_a_key_revoked_later_is_pointed_out_and_no_longer_carries_a_checkpoint(evidence: Evidence) -> None:
    history = KeyHistory().add("site", evidence.site.public, "2026-01-01T00:00:00Z")
    history = history.add("server", evidence.server.public, "2026-01-01T00:00:00Z")
    revoked = history.revoke(evidence.site.public, "2026-12-01T00:00:00Z")
    result = examine(evidence.attestation, revoked, bundle=evidence.bundle)
    assert outcome(result, "key of site") is Outcome.NOT_CHECKED
    assert outcome(result, "log") is Outcome.FAILS
