"""Checkpoints: how long a log is and what its root is, signed by its owner, co-signed by peers who saw it grow.

A log's owner can show two people two logs. Peers who co-sign only what extends the last checkpoint that they signed
make that visible: see `check_consistency`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log import merkle
from common.evidence.schema import check_digest, check_text, decode, encode

PAYLOAD_TYPE = "application/vnd.fedforget.checkpoint+json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of the log `origin`: `size` leaves under `root` (hexadecimal)."""

    origin: str
    size: int
    root: str

    def __post_init__(self) -> None:
        check_text(self.origin, "origin")
        check_digest(self.root, "root")
        if self.size < 0:
            raise EvidenceError("size is negative")
        if self.size == 0 and self.root != merkle.EMPTY_ROOT.hex():
            raise EvidenceError("root is not that of an empty log")


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> dsse.Envelope:
    """The owner's signature."""
    return dsse.sign(PAYLOAD_TYPE, encode(checkpoint), key)


def read_checkpoint(
    envelope: dsse.Envelope, pinned: PinnedKeys, required: Mapping[str, int]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint and the names of who signed it; raises as `dsse.verify` does."""
    signers = dsse.verify(envelope, PAYLOAD_TYPE, pinned, required)
    return decode(Checkpoint, envelope.body), signers


def check_consistency(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Raise unless `new` is `old` grown, or the same.

    Args:
        old: one that the owner and a peer have signed.
        new: what the owner shows now.
        proof: `merkle.consistency_proof` from `old.size` to `new.size`.
    """
    if old.origin != new.origin:
        raise EvidenceError(f"checkpoints of two logs: {old.origin!r} and {new.origin!r}")
    if new.size < old.size:
        raise EvidenceError(f"the log was cut short: {new.size} leaves now, {old.size} were signed before")
    if new.size == old.size and new.root != old.root:
        raise EvidenceError(f"the log was forked: two signed roots at {old.size} leaves")
    try:
        merkle.verify_consistency(old.size, new.size, proof, bytes.fromhex(old.root), bytes.fromhex(new.root))
    except EvidenceError as err:
        raise EvidenceError(f"the log was forked, or the proof is not of these checkpoints: {err}") from None


def cosign(
    envelope: dsse.Envelope,
    key: SigningKey,
    pinned: PinnedKeys,
    owner: str,
    last: Checkpoint | None,
    proof: Sequence[bytes],
) -> dsse.Envelope:
    """A peer's signature below the owner's, given only if the log extends `last`, the one it signed before.

    Args:
        envelope: the checkpoint, signed by its owner.
        key: the peer's key.
        pinned: public keys that the peer knows.
        owner: pinned name that must have signed.
        last: the checkpoint of this log that the peer co-signed last; None the first time.
        proof: consistency proof from `last`, empty the first time.
    """
    checkpoint, _ = read_checkpoint(envelope, pinned, {owner: 1})

    if last is not None:
        check_consistency(last, checkpoint, proof)
    elif proof:
        raise EvidenceError("a consistency proof where no earlier checkpoint is known")

    return dsse.add_signature(envelope, key)
