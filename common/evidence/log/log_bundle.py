"""Files for an auditor of a log: a checkpoint with either proofs about one leaf or all leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence.canonical import parse_canonical
from common.evidence.commitment import check_commitment
from common.evidence.dsse import Envelope
from common.evidence.log import merkle
from common.evidence.log.log_checkpoint import Checkpoint, check_consistency
from common.evidence.log.tree_log import Entry
from common.evidence.schema import check_digest, encode, from_json


@dataclass(frozen=True, slots=True)
class ProofBundle:
    """Shows one leaf and reveals nothing of the others.

    Attributes:
        checkpoint: checkpoint of the log, co-signed.
        salt: opens the leaf's commitment (hexadecimal).
        leaf: the entry.
        index: position of the leaf in the log.
        inclusion: hashes from the leaf to the root (hexadecimal).
        consistency: hashes from the checkpoint named in the attestation to this one.
    """

    checkpoint: Envelope
    salt: str
    leaf: Entry
    index: int
    inclusion: tuple[str, ...]
    consistency: tuple[str, ...]

    def __post_init__(self) -> None:
        check_digest(self.salt, "salt")
        for item in (*self.inclusion, *self.consistency):
            check_digest(item, "a hash of a proof")


@dataclass(frozen=True, slots=True)
class LeavesBundle:
    """Shows the whole log: the only way to compare it with any earlier checkpoint."""

    checkpoint: Envelope
    salt: str
    leaves: tuple[Entry, ...]

    def __post_init__(self) -> None:
        check_digest(self.salt, "salt")

    @property
    def encoded(self) -> list[bytes]:
        """The leaves' bytes."""
        return [encode(leaf) for leaf in self.leaves]


def make_proof_bundle(
    checkpoint: Envelope, leaves: Sequence[bytes], index: int, salt: bytes, since: Checkpoint
) -> ProofBundle:
    """Proofs that the leaf at `index` is in the log, and that the log grew from `since`.

    `leaves` are exactly those that `checkpoint` covers.
    """
    return ProofBundle(
        checkpoint,
        salt.hex(),
        from_json(Entry, parse_canonical(leaves[index])),
        index,
        tuple(node.hex() for node in merkle.inclusion_proof(leaves, index)),
        tuple(node.hex() for node in merkle.consistency_proof(leaves, since.size)),
    )


def decode_bundle(data: bytes) -> ProofBundle | LeavesBundle:
    """Read a bundle's file, or raise an `EvidenceError`."""
    value = parse_canonical(data)
    if isinstance(value, dict) and "leaves" in value:
        return from_json(LeavesBundle, value)
    return from_json(ProofBundle, value)


def check_bundle(bundle: ProofBundle | LeavesBundle, checkpoint: Checkpoint, document: bytes, since: Checkpoint) -> int:
    """Return the index of the leaf that commits to `document`; raise unless it is in the log, added after `since`.

    Args:
        bundle: the bundle to check.
        checkpoint: checkpoint read from the bundle's envelope after its signatures were verified.
        document: the document that the leaf commits to.
        since: the earlier checkpoint that the document itself names.
    """
    # All leaves are turned into the proofs for one, so both kinds pass the same checks.
    if isinstance(bundle, LeavesBundle):
        bundle = _proofs(bundle, checkpoint, document, since)
    check_commitment(document, bytes.fromhex(bundle.salt), bundle.leaf.commitment)
    # A document names an earlier checkpoint; its own leaf can only have come after it.
    if bundle.index < since.size:
        raise EvidenceError(
            f"leaf {bundle.index} is older than the checkpoint of {since.size} leaves that the document names"
        )
    inclusion = [bytes.fromhex(item) for item in bundle.inclusion]
    root = bytes.fromhex(checkpoint.root)
    merkle.verify_inclusion(encode(bundle.leaf), bundle.index, checkpoint.size, inclusion, root)
    check_consistency(since, checkpoint, [bytes.fromhex(item) for item in bundle.consistency])

    return bundle.index


def _proofs(bundle: LeavesBundle, checkpoint: Checkpoint, document: bytes, since: Checkpoint) -> ProofBundle:
    leaves = bundle.encoded
    salt = bytes.fromhex(bundle.salt)
    if len(leaves) != checkpoint.size:
        raise EvidenceError(f"{len(leaves)} leaves, the checkpoint was signed over {checkpoint.size}")
    # Leaves do not say what they commit to: with the salt each is tried.
    for index, leaf in enumerate(bundle.leaves):
        try:
            check_commitment(document, salt, leaf.commitment)
        except EvidenceError:
            continue

        return make_proof_bundle(bundle.checkpoint, leaves, index, salt, since)

    raise EvidenceError("no leaf commits to this document")
