from __future__ import annotations

import dataclasses

import pytest
from evidence_files import Evidence

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.commitment import commitment
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log import merkle
from common.evidence.log.log_bundle import LeavesBundle, check_bundle, decode_bundle
from common.evidence.log.log_checkpoint import Checkpoint, check_consistency, cosign, read_checkpoint, sign_checkpoint
from common.evidence.log.tree_log import Entry, Log, append, check_leaves, replay
from common.evidence.schema import decode, encode

SALT = bytes(32)
TIME = "2026-11-20T09:00:00Z"
OWNER = SigningKey.generate()
PEER = SigningKey.generate()
PINNED = PinnedKeys.of([("site", OWNER.public), ("peer", PEER.public)])


def entries(count: int, tag: bytes = b"") -> list[Entry]:
    return [Entry(commitment(b"%d" % number + tag, SALT), "revocation", TIME) for number in range(count)]


def filled(items: list[Entry]) -> tuple[Log, list[bytes]]:
    log = Log("site-1")
    leaves = []
    for entry in items:
        log, leaf = append(log, entry)
        leaves.append(leaf)

    return log, leaves


def test_a_log_replayed_from_its_leaves_is_the_log_that_grew() -> None:
    log, leaves = filled(entries(11))
    assert replay("site-1", leaves) == log
    assert log.checkpoint == Checkpoint("site-1", 11, merkle.grow(leaves).root.hex())
    assert Log("site-1").checkpoint.size == 0


def test_a_leaf_that_is_no_entry_is_named() -> None:
    _, leaves = filled(entries(3))
    with pytest.raises(EvidenceError, match="leaf 1"):
        replay("site-1", [leaves[0], leaves[1] + b" ", leaves[2]])


@pytest.mark.parametrize("bad", [("x", "kind", TIME), ("ab" * 32, "", TIME), ("ab" * 32, "kind", "now")])
def test_an_entry_with_one_bad_field_cannot_be_made(bad: tuple[str, str, str]) -> None:
    with pytest.raises(EvidenceError):
        Entry(*bad)


def test_stored_leaves_are_held_against_what_was_signed() -> None:
    log, leaves = filled(entries(9))
    signed = replay("site-1", leaves[:6]).checkpoint
    check_leaves("site-1", leaves, signed)
    check_leaves("site-1", leaves, log.checkpoint)
    with pytest.raises(EvidenceError, match="cut short"):
        check_leaves("site-1", leaves[:5], signed)
    with pytest.raises(EvidenceError, match="changed"):
        check_leaves("site-1", [*leaves[:2], leaves[3], leaves[2], *leaves[4:]], signed)
    with pytest.raises(EvidenceError, match="checkpoint of log"):
        check_leaves("site-2", leaves, signed)


def test_a_peer_cosigns_a_log_that_grew() -> None:
    _, leaves = filled(entries(9))
    old = replay("site-1", leaves[:4]).checkpoint
    new = replay("site-1", leaves).checkpoint
    first = cosign(sign_checkpoint(old, OWNER), PEER, PINNED, "site", None, ())
    assert read_checkpoint(first, PINNED, {"site": 1, "peer": 1}) == (old, ("peer", "site"))
    second = cosign(sign_checkpoint(new, OWNER), PEER, PINNED, "site", old, merkle.consistency_proof(leaves, 4))
    assert read_checkpoint(second, PINNED, {"site": 1, "peer": 1})[0] == new


def test_a_peer_does_not_cosign_a_log_that_was_cut_short_forked_or_is_another() -> None:
    _, leaves = filled(entries(9))
    _, fork = filled([*entries(3), *entries(6, b"fork")])
    old = replay("site-1", leaves[:6]).checkpoint
    cases = [
        (replay("site-1", leaves[:5]).checkpoint, (), "cut short"),
        (replay("site-1", fork[:6]).checkpoint, (), "forked"),
        (replay("site-1", fork).checkpoint, merkle.consistency_proof(fork, 6), "forked"),
        (replay("site-1", leaves).checkpoint, merkle.consistency_proof(leaves, 6)[:-1], "forked"),
        (replay("site-2", leaves).checkpoint, merkle.consistency_proof(leaves, 6), "two logs"),
    ]
    for new, proof, says in cases:
        with pytest.raises(EvidenceError, match=says):
            cosign(sign_checkpoint(new, OWNER), PEER, PINNED, "site", old, proof)


def test_a_peer_cosigns_only_what_the_owner_signed() -> None:
    checkpoint = Log("site-1").checkpoint
    with pytest.raises(EvidenceError, match="'site', 1 needed"):
        cosign(sign_checkpoint(checkpoint, PEER), OWNER, PINNED, "site", None, ())
    with pytest.raises(EvidenceError, match="no earlier"):
        cosign(sign_checkpoint(checkpoint, OWNER), PEER, PINNED, "site", None, (bytes(32),))


def test_the_same_checkpoint_again_is_consistent() -> None:
    log, _ = filled(entries(3))
    check_consistency(log.checkpoint, log.checkpoint, ())


def test_a_checkpoint_is_not_taken_for_another_payload_type() -> None:
    envelope = dsse.sign("application/vnd.in-toto+json", encode(Log("site-1").checkpoint), OWNER)
    with pytest.raises(EvidenceError, match="payload type"):
        read_checkpoint(envelope, PINNED, {"site": 1})


def test_both_kinds_of_bundle_find_the_attestation_in_the_log(evidence: Evidence) -> None:
    checkpoint = decode(Checkpoint, evidence.checkpoint.body)
    for data in (evidence.bundle, evidence.whole_log):
        bundle = decode_bundle(data)
        assert encode(bundle) == data
        assert check_bundle(bundle, checkpoint, evidence.statement, evidence.since) == 5
        with pytest.raises(EvidenceError):
            check_bundle(bundle, checkpoint, evidence.statement + b" ", evidence.since)


def test_a_bundle_with_one_wrong_part_is_refused(evidence: Evidence) -> None:
    checkpoint = decode(Checkpoint, evidence.checkpoint.body)
    proofs = evidence.proofs
    wrong = [
        dataclasses.replace(proofs, salt="00" * 32),
        dataclasses.replace(proofs, leaf=dataclasses.replace(proofs.leaf, kind="tombstone")),
        dataclasses.replace(proofs, leaf=dataclasses.replace(proofs.leaf, time="2026-11-20T09:00:01Z")),
        dataclasses.replace(proofs, leaf=decode(Entry, evidence.leaves[6])),
        dataclasses.replace(proofs, index=6),
        dataclasses.replace(proofs, inclusion=proofs.inclusion[1:]),
        dataclasses.replace(proofs, consistency=()),
    ]
    for bundle in wrong:
        with pytest.raises(EvidenceError):
            check_bundle(bundle, checkpoint, evidence.statement, evidence.since)

    whole = decode_bundle(evidence.whole_log)
    assert isinstance(whole, LeavesBundle)
    with pytest.raises(EvidenceError, match="9 leaves, the checkpoint was signed over 10"):
        check_bundle(
            dataclasses.replace(whole, leaves=whole.leaves[:-1]), checkpoint, evidence.statement, evidence.since
        )

    for leaves in (whole.leaves[:-1], whole.leaves[1:], (*whole.leaves[:5], whole.leaves[6], *whole.leaves[6:])):
        with pytest.raises(EvidenceError):
            check_bundle(dataclasses.replace(whole, leaves=leaves), checkpoint, evidence.statement, evidence.since)


def test_an_attestation_older_than_the_checkpoint_it_names_is_refused(evidence: Evidence) -> None:
    checkpoint = decode(Checkpoint, evidence.checkpoint.body)
    since = replay("site-1", evidence.leaves[:7]).checkpoint
    with pytest.raises(EvidenceError, match="older"):
        check_bundle(evidence.proofs, checkpoint, evidence.statement, since)
