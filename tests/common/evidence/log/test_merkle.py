from __future__ import annotations

import functools
import hashlib

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EvidenceError
from common.evidence.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    grow,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

LARGEST = 300
LEAVES = [b"leaf %d" % index for index in range(LARGEST)]


@pytest.fixture(scope="module")
def peer() -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in LEAVES:
        tree.append_entry(leaf)
    return tree


def test_the_roots_are_pymerkles_for_every_size_up_to_300(peer: pymerkle.InmemoryTree) -> None:
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES, 1):
        frontier = frontier.append(leaf)
        assert frontier.root == peer.get_root(size)
        assert frontier.size == size


def test_inclusion_proofs_hold_and_are_pymerkles_for_every_size_up_to_300(peer: pymerkle.InmemoryTree) -> None:
    for size in range(1, LARGEST + 1):
        root = peer.get_root(size)
        # All leaves of small trees; of larger ones the edges and those that a stride of a prime meets.
        for index in range(size) if size <= 40 else sorted({*range(0, size, 53), size - 2, size - 1}):
            proof = inclusion_proof(LEAVES[:size], index)
            verify_inclusion(LEAVES[index], index, size, proof, root)
            theirs = {bytes.fromhex(node) for node in peer.prove_inclusion(index + 1, size).serialize()["path"]}
            assert {*proof, leaf_hash(LEAVES[index])} == theirs


def spans(size: int) -> dict[bytes, tuple[int, int]]:
    """The range of leaves under every hash that can stand in a proof about a tree of `size`."""
    table = {root: span for root, span in full_subtrees().items() if span[1] <= size}
    start = 0
    while start < size:
        table[grow(LEAVES[start:size]).root] = (start, size)
        start += 1 << ((size - start).bit_length() - 1)

    return table


@functools.cache
def full_subtrees() -> dict[bytes, tuple[int, int]]:
    widths = [1 << bit for bit in range(LARGEST.bit_length())]
    starts = ((start, start + width) for width in widths for start in range(0, LARGEST - width + 1, width))
    return {grow(LEAVES[start:stop]).root: (start, stop) for start, stop in starts}


def test_consistency_proofs_hold_and_are_pymerkles_for_every_size_up_to_300(peer: pymerkle.InmemoryTree) -> None:
    for second in range(1, LARGEST + 1):
        span_of = spans(second)
        new = peer.get_root(second)

        for first in range(1, second + 1) if second <= 24 else sorted({1, second * 2 // 5, second // 2, second - 1}):
            proof = consistency_proof(LEAVES[:second], first)
            old = peer.get_root(first)
            verify_consistency(first, second, proof, old, new)
            theirs = peer.prove_consistency(first, second)
            pymerkle.verify_consistency(grow(LEAVES[:first]).root, grow(LEAVES[:second]).root, theirs)
            # pymerkle sends the first tree's root too and one subtree in parts; both proofs cover every leaf once.
            ours = [span_of[node] for node in proof]
            covered = [*ours, (0, first)] if first == second or first.bit_count() == 1 else ours
            assert sorted(leaf for start, stop in covered for leaf in range(start, stop)) == list(range(second))
            for node in theirs.serialize()["path"]:
                start, stop = span_of[bytes.fromhex(node)]
                assert any(left <= start and stop <= right for left, right in covered)


def test_the_root_of_nothing_and_of_three_leaves_by_hand() -> None:
    assert grow([]).root == EMPTY_ROOT == hashlib.sha256().digest()
    a, b, c = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b", b"c"))
    left = hashlib.sha256(b"\x01" + a + b).digest()
    assert grow([b"a", b"b", b"c"]).root == hashlib.sha256(b"\x01" + left + c).digest() == node_hash(left, c)


def test_a_leaf_cannot_pass_for_a_node() -> None:
    inner = leaf_hash(b"a") + leaf_hash(b"b")
    assert grow([inner]).root != grow([b"a", b"b"]).root


def test_a_frontier_holds_no_more_than_the_logarithm_of_its_size() -> None:
    assert len(grow(LEAVES).peaks) == LARGEST.bit_count()


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40), st.data())
def test_a_proof_holds_for_its_leaf_and_place_alone(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    root = grow(leaves).root
    proof = inclusion_proof(leaves, index)
    verify_inclusion(leaves[index], index, size, proof, root)
    with pytest.raises(EvidenceError):
        verify_inclusion(leaves[index] + b"x", index, size, proof, root)
    for elsewhere in range(size):
        if leaves[elsewhere] != leaves[index] and elsewhere != index:
            with pytest.raises(EvidenceError):
                verify_inclusion(leaves[index], elsewhere, size, proof, root)

    for damaged in (proof[:-1] if proof else (root,), (*proof, root), tuple(reversed(proof))):
        if damaged != proof:
            with pytest.raises(EvidenceError):
                verify_inclusion(leaves[index], index, size, damaged, root)


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=40), st.data())
def test_a_log_that_was_rewritten_has_no_consistency_proof(leaves: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(leaves) - 1))
    changed = data.draw(st.integers(0, first - 1))
    rewritten = [*leaves[:changed], leaves[changed] + b"x", *leaves[changed + 1 :]]
    old = grow(leaves[:first]).root
    new = grow(rewritten).root
    for proof in (consistency_proof(rewritten, first), consistency_proof(leaves, first)):
        with pytest.raises(EvidenceError):
            verify_consistency(first, len(leaves), proof, old, new)


@given(st.lists(st.binary(max_size=8), max_size=40), st.data())
def test_every_prefix_of_a_log_is_consistent_with_it_and_every_damage_shows(
    leaves: list[bytes], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(leaves)))
    old = grow(leaves[:first]).root
    new = grow(leaves).root
    proof = consistency_proof(leaves, first)
    verify_consistency(first, len(leaves), proof, old, new)
    damaged = [(*proof, new), *((*proof[:i], bytes(32), *proof[i + 1 :]) for i in range(len(proof)))]
    if proof:
        damaged.append(proof[:-1])
    for wrong in damaged:
        with pytest.raises(EvidenceError):
            verify_consistency(first, len(leaves), wrong, old, new)


def test_a_tree_does_not_pass_for_a_larger_one_with_the_same_root() -> None:
    root = grow(LEAVES[:4]).root
    proof = consistency_proof(LEAVES[:4], 2)
    verify_consistency(2, 4, proof, grow(LEAVES[:2]).root, root)

    for larger in (5, 8, 64):
        with pytest.raises(EvidenceError, match="too short"):
            verify_consistency(2, larger, proof, grow(LEAVES[:2]).root, root)
        with pytest.raises(EvidenceError, match="too short"):
            verify_inclusion(LEAVES[0], 0, larger, inclusion_proof(LEAVES[:4], 0), root)


def test_sizes_that_make_no_sense_are_refused() -> None:
    root = grow(LEAVES[:3]).root
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(EvidenceError):
            verify_inclusion(LEAVES[0], index, size, (), root)

    for first, second in ((-1, 3), (4, 3)):
        with pytest.raises(EvidenceError):
            verify_consistency(first, second, (), root, root)

    with pytest.raises(EvidenceError):
        verify_consistency(3, 3, (), root, bytes(32))
    with pytest.raises(EvidenceError):
        verify_consistency(0, 3, (), bytes(32), root)
    with pytest.raises(EvidenceError):
        inclusion_proof(LEAVES[:3], 3)
    with pytest.raises(EvidenceError):
        consistency_proof(LEAVES[:3], 4)
