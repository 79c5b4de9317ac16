"""The append-only log as a value: it turns entries into leaves to store and a checkpoint to sign.

The caller stores the leaves, in any `Sequence[bytes]` such as a table of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common.errors import EvidenceError
from common.evidence.log import merkle
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.schema import check_digest, check_text, check_time, decode, encode


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf: a salted commitment to a record of some `kind`. A log holds no readable content.

    Attributes:
        commitment: `commitment.commitment` of the recorded document.
        kind: the event, e.g. `revocation`, `tombstone` or `attestation`.
        time: when it was recorded (UTC).
    """

    commitment: str
    kind: str
    time: str

    def __post_init__(self) -> None:
        check_digest(self.commitment, "commitment")
        check_text(self.kind, "kind")
        check_time(self.time, "time")


@dataclass(frozen=True, slots=True)
class Log:
    """Name and growing edge of a log; O(log size)."""

    origin: str
    frontier: merkle.Frontier = field(default_factory=merkle.Frontier)

    @property
    def checkpoint(self) -> Checkpoint:
        """The state to sign."""
        return Checkpoint(self.origin, self.frontier.size, self.frontier.root.hex())


def append(log: Log, entry: Entry) -> tuple[Log, bytes]:
    """The log after `entry`, and the leaf to store at index `log.frontier.size`."""
    leaf = encode(entry)
    return Log(log.origin, log.frontier.append(leaf)), leaf


def replay(origin: str, leaves: Iterable[bytes]) -> Log:
    """Rebuild the log from `leaves`, e.g. after a restart; raise for a leaf that is not a canonical `Entry`."""
    log = Log(origin)

    for index, leaf in enumerate(leaves):
        try:
            # Another encoding of an entry would be another leaf: it must have been damaged or forged.
            decode(Entry, leaf)
        except EvidenceError as err:
            raise EvidenceError(f"leaf {index}: {err}") from None

        log = Log(origin, log.frontier.append(leaf))

    return log


def check_leaves(origin: str, leaves: Sequence[bytes], signed: Checkpoint) -> None:
    """Raise unless the stored `leaves` begin with exactly what `signed` describes."""
    if signed.origin != origin:
        raise EvidenceError(f"checkpoint of log {signed.origin!r}, but the leaves are of {origin!r}")
    if len(leaves) < signed.size:
        raise EvidenceError(f"the log was cut short: {len(leaves)} leaves, {signed.size} were signed")
    if replay(origin, leaves[: signed.size]).checkpoint != signed:
        raise EvidenceError(f"the log was changed: its first {signed.size} leaves do not have the root that was signed")
