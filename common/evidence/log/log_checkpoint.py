"""Checkpoints: the size and root of a log, signed by its owner and co-signed by peers who saw it grow.

The owner of a log could show two people two different logs. Peers prevent this: they co-sign only a log that extends
the last checkpoint they signed, see `check_consistency`.
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
            raise EvidenceError("root is not the root of an empty log")


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> dsse.Envelope:
    """The owner's signature."""
    return dsse.sign(PAYLOAD_TYPE, encode(checkpoint), key)


def read_checkpoint(
    envelope: dsse.Envelope, pinned: PinnedKeys, required: Mapping[str, int]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint and the names of its signers; raises as `dsse.verify` does."""
    signers = dsse.verify(envelope, PAYLOAD_TYPE, pinned, required)
    return decode(Checkpoint, envelope.body), signers


def check_consistency(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Raise unless `new` extends `old` or equals it.

    Args:
        old: a checkpoint that the owner and a peer have signed.
        new: the checkpoint that the owner shows now.
        proof: `merkle.consistency_proof` from `old.size` to `new.size`.
    """
    if old.origin != new.origin:
        raise EvidenceError(f"the checkpoints are of two logs: {old.origin!r} and {new.origin!r}")
    # Told apart for people: a log cut short, a fork, and a wrong proof have different causes.
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
    """Add a peer's signature to the owner's, only if the log extends `last`.

    Args:
        envelope: the checkpoint, signed by its owner.
        key: the peer's key.
        pinned: public keys that the peer knows.
        owner: pinned name of the owner, who must have signed.
        last: the last checkpoint of this log that the peer co-signed; None the first time.
        proof: consistency proof from `last`; empty the first time.
    """
    checkpoint, _ = read_checkpoint(envelope, pinned, {owner: 1})

    if last is not None:
        check_consistency(last, checkpoint, proof)
    # Without a checkpoint to compare with, a proof shows nothing.
    elif proof:
        raise EvidenceError("a consistency proof was given, but no earlier checkpoint is known")

    return dsse.add_signature(envelope, key)
