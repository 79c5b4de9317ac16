"""A hospital's signed number of training studies: the upper bound of its weight in averages."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.schema import decode, encode

COUNTS_TYPE = "application/vnd.fedforget.study-counts+json"
MOST = 100_000_000
"""Maximum number of studies; more must be a mistake."""
LAST = 2**53 - 1
"""Largest sequence number."""
_SITE = "site"


@dataclass(frozen=True, slots=True)
class StudyCounts:
    """A later statement has a larger `sequence`; `train_studies` includes studies that are still to be forgotten."""

    site: str
    sequence: int
    train_studies: int

    def __post_init__(self) -> None:
        if not 0 <= self.train_studies <= MOST:
            raise EvidenceError(f"a number of studies from 0 to {MOST} is registered, not {self.train_studies}")
        if not 0 < self.sequence <= LAST:
            raise EvidenceError("the sequence number of a registration is out of range")


def sign_counts(counts: StudyCounts, key: SigningKey) -> bytes:
    """The statement as an envelope."""
    return dsse.encode_envelope(dsse.sign(COUNTS_TYPE, encode(counts), key))


def read_counts(data: bytes, key: PublicKey) -> StudyCounts:
    """The counts that the holder of `key` registers.

    Raises:
        EvidenceError: damaged, signed with another key, or out of range.
    """
    envelope = dsse.decode_envelope(data)
    dsse.verify(envelope, COUNTS_TYPE, PinnedKeys.of([(_SITE, key)]), {_SITE: 1})
    return decode(StudyCounts, envelope.body)
