"""Which key signed for which party, from when until when; rotation and revocation keep earlier records."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.errors import EvidenceError
from common.evidence.keys import PinnedKeys, PublicKey
from common.evidence.schema import check_text, check_time


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key of `name`, valid from `valid_from` until `valid_until`, or until `revoked_at` if that is earlier."""

    name: str
    pem: str
    valid_from: str
    valid_until: str | None = None
    revoked_at: str | None = None

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_time(self.valid_from, "validFrom")
        for time, field in ((self.valid_until, "validUntil"), (self.revoked_at, "revokedAt")):
            if time is not None:
                check_time(time, field)

        # Texts of this one form sort in order of time.
        if self.valid_until is not None and self.valid_until <= self.valid_from:
            raise EvidenceError("validUntil is not after validFrom")

    @property
    def key(self) -> PublicKey:
        """The public key."""
        return PublicKey.from_pem(self.pem.encode())

    def holds_at(self, time: str) -> bool:
        """Whether the key could sign at `time` (UTC text)."""
        return self.valid_from <= time and self.ends_after(time)

    def ends_after(self, time: str) -> bool:
        """Whether the key had not ended at `time`."""
        ends = [end for end in (self.valid_until, self.revoked_at) if end is not None]
        return all(time < end for end in ends)


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """All keys of a federation, in one file that its members exchange outside any bundle.

    The time of a signature is the signer's own statement, and a thief can state an earlier time. For a revoked key
    rely on the log, where a co-signed checkpoint shows what existed before the theft.
    """

    keys: tuple[KeyRecord, ...] = ()

    def __post_init__(self) -> None:
        # Two records of one key could say different things about when it ended.
        if len({record.key.keyid for record in self.keys}) != len(self.keys):
            raise EvidenceError("a key appears twice in the key history")

    def at(self, time: str) -> PinnedKeys:
        """The keys that were valid at `time`."""
        check_time(time, "time")
        return PinnedKeys.of((record.name, record.key) for record in self.keys if record.holds_at(time))

    def signing_after(self, time: str) -> PinnedKeys:
        """The keys that had not ended by `time`: for a document that is signed later, at a time it does not state."""
        check_time(time, "time")
        return PinnedKeys.of((record.name, record.key) for record in self.keys if record.ends_after(time))

    def unrevoked(self) -> PinnedKeys:
        """The keys that were never revoked, in use or not: for checkpoints, which carry no time."""
        return PinnedKeys.of((record.name, record.key) for record in self.keys if record.revoked_at is None)

    def with_all(self, other: KeyHistory) -> KeyHistory:
        """Both histories in one; for a key in both, the record of this history counts."""
        mine = {record.key.keyid for record in self.keys}
        return KeyHistory((*self.keys, *(record for record in other.keys if record.key.keyid not in mine)))

    def add(self, name: str, key: PublicKey, valid_from: str) -> KeyHistory:
        """The history with a further key of `name`."""
        return KeyHistory((*self.keys, KeyRecord(name, key.pem.decode(), valid_from)))

    def rotate(self, old: PublicKey, new: PublicKey, at: str) -> KeyHistory:
        """The history in which `new` replaces `old` at `at`; earlier signatures by `old` stay valid."""
        record = self._record(old)
        if not record.holds_at(at):
            raise EvidenceError(f"key {old.keyid} is not valid at {at}, so it cannot be rotated at that time")
        return self._with(replace(record, valid_until=at)).add(record.name, new, at)

    def revoke(self, key: PublicKey, at: str) -> KeyHistory:
        """The history in which `key` is not trusted from `at` on; an earlier revocation stays in force."""
        record = self._record(key)
        check_time(at, "time")
        return self._with(replace(record, revoked_at=min(at, record.revoked_at or at)))

    def _record(self, key: PublicKey) -> KeyRecord:
        for record in self.keys:
            if record.key == key:
                return record

        raise EvidenceError(f"key {key.keyid} is not in the key history")

    def _with(self, changed: KeyRecord) -> KeyHistory:
        return KeyHistory(tuple(changed if record.pem == changed.pem else record for record in self.keys))
