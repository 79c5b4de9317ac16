"""Merkle tree of RFC 6962: roots, proofs that it holds a leaf, proofs that it only grew.

Leaves are bytes; hashes are 32 bytes. Verification follows RFC 9162, 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from common.errors import EvidenceError

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf (RFC 6962, 2.1)."""
    # Different prefixes of leaves and nodes: nobody can pass off a node as a leaf.
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and both children (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The state of a growing tree: `peaks` are the roots of its full subtrees, largest first; O(log size)."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """The frontier after one more leaf."""
        peaks = list(self.peaks)
        node = leaf_hash(leaf)
        position = self.size
        # Each trailing 1 bit of the size is a full subtree of equal height to join with.
        while position & 1:
            node = node_hash(peaks.pop(), node)
            position >>= 1

        return Frontier(self.size + 1, (*peaks, node))

    @property
    def root(self) -> bytes:
        """The tree's root."""
        if not self.peaks:
            return EMPTY_ROOT
        *rest, node = self.peaks
        for peak in reversed(rest):
            node = node_hash(peak, node)
        return node


def grow(leaves: Iterable[bytes]) -> Frontier:
    """The frontier of a tree of `leaves`."""
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    return frontier


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Hashes from the leaf at `index` up to the root (RFC 6962, 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise EvidenceError(f"no leaf {index} in a tree of {len(leaves)}")
    return _path([leaf_hash(leaf) for leaf in leaves], 0, len(leaves), index)


def consistency_proof(leaves: Sequence[bytes], first: int) -> tuple[bytes, ...]:
    """Hashes that prove that the tree of the `first` leaves is a prefix of the whole tree (RFC 6962, 2.1.2)."""
    if not 0 <= first <= len(leaves):
        raise EvidenceError(f"a tree of {len(leaves)} leaves never had {first}")
    if first in (0, len(leaves)):
        return ()
    return _subproof([leaf_hash(leaf) for leaf in leaves], 0, len(leaves), first, known=True)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise unless `proof` leads from `leaf` at `index` to the `root` of a tree of `size` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise EvidenceError(f"leaf {index} cannot be in a tree of {size}")
    position = index
    last = size - 1
    node = leaf_hash(leaf)

    for sibling in proof:
        if last == 0:
            raise EvidenceError(f"inclusion proof of {len(proof)} hashes is too long for a tree of {size}")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while position and not position & 1:
                position = position >> 1
                last = last >> 1
        else:
            node = node_hash(node, sibling)

        position = position >> 1
        last = last >> 1

    if last:
        raise EvidenceError(f"inclusion proof of {len(proof)} hashes is too short for a tree of {size}")
    if node != root:
        raise EvidenceError(f"inclusion proof leads to {node.hex()}, the root is {root.hex()}")


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """Raise unless `proof` shows the tree of `first` leaves to be a prefix of that of `second` (RFC 9162, 2.1.4.2)."""
    if not 0 <= first <= second:
        raise EvidenceError(f"a tree cannot grow from {first} to {second} leaves")
    if first in (0, second):
        _verify_without_proof(first, second, proof, first_root, second_root)
        return

    # A full first tree is a node of the second: its own root starts the path, and the prover leaves it out.
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise EvidenceError("consistency proof is empty")
    position = first - 1
    last = second - 1
    while position & 1:
        position = position >> 1
        last = last >> 1

    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise EvidenceError("consistency proof is too long")
        if position & 1 or position == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while position and not position & 1:
                position = position >> 1
                last = last >> 1
        else:
            new = node_hash(new, sibling)

        position = position >> 1
        last = last >> 1

    if last:
        raise EvidenceError("consistency proof is too short")
    if old != first_root:
        raise EvidenceError(f"consistency proof leads to {old.hex()}, the first root is {first_root.hex()}")
    if new != second_root:
        raise EvidenceError(f"consistency proof leads to {new.hex()}, the second root is {second_root.hex()}")


def _verify_without_proof(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Compare trees of equal size, or with an empty one: the roots alone decide."""
    if proof:
        raise EvidenceError("consistency proof holds hashes where none are needed")
    if first == 0 and first_root != EMPTY_ROOT:
        raise EvidenceError("the root of the empty tree is not the SHA-256 of no bytes")
    if first == second and first_root != second_root:
        raise EvidenceError(f"two roots for one tree of {first} leaves")


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _subtree(hashes: Sequence[bytes], start: int, stop: int) -> bytes:
    if stop - start == 1:
        return hashes[start]
    middle = start + _split(stop - start)
    return node_hash(_subtree(hashes, start, middle), _subtree(hashes, middle, stop))


def _path(hashes: Sequence[bytes], start: int, stop: int, index: int) -> tuple[bytes, ...]:
    if stop - start == 1:
        return ()
    middle = start + _split(stop - start)
    if index < middle:
        return (*_path(hashes, start, middle, index), _subtree(hashes, middle, stop))
    return (*_path(hashes, middle, stop, index), _subtree(hashes, start, middle))


def _subproof(hashes: Sequence[bytes], start: int, stop: int, first: int, *, known: bool) -> tuple[bytes, ...]:
    """`known`: the subtree from `start` to `first` is the whole first tree, whose root the verifier has."""
    if stop == first:
        return () if known else (_subtree(hashes, start, stop),)
    middle = start + _split(stop - start)
    if first <= middle:
        return (*_subproof(hashes, start, middle, first, known=known), _subtree(hashes, middle, stop))
    return (*_subproof(hashes, middle, stop, first, known=False), _subtree(hashes, start, middle))
