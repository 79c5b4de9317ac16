"""A tamper-evident log in a database: an RFC 6962 tree of salted commitments, with a signed checkpoint at every growth.

Each side keeps a log and co-signs the other's, so that neither can rewrite its log alone. A leaf states the kind and
time of an event. The vault holds the content and the salt, and its rows can be erased.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.orm import Session

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.canonical import canonical
from common.evidence.commitment import SALT_BYTES, commitment
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.log import merkle
from common.evidence.log.log_checkpoint import Checkpoint, cosign, read_checkpoint, sign_checkpoint
from common.evidence.log.tree_log import Entry, Log, append
from common.evidence.schema import decode, time_text
from common.platform.event_log.tables import LogTables

OWNER = "owner"
PEER = "peer"
KEY = "key"
"""Kind of leaf that names the key that signs the log from there on."""
AT_ONCE = 500
"""Maximum number of names in one SQL statement."""
SERVER_ORIGIN = "server"
"""Name of the coordinator's log."""
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Record:
    """An event to log: its unique name here (logged only once), its kind, and the document to commit to."""

    source: str
    kind: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The content of a leaf, while it is in the vault."""

    source: str
    position: int
    document: bytes
    salt: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the document."""
        return hashlib.sha256(self.document).hexdigest()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another log as last seen; `trouble` says why a newer checkpoint was refused, empty if none was."""

    origin: str
    envelope: dsse.Envelope
    seen: datetime
    trouble: str

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, verified when it was stored."""
        return decode(Checkpoint, self.envelope.body)


@dataclass(frozen=True, slots=True)
class EventLog:
    """One side's log. Every method works in the caller's transaction."""

    tables: LogTables
    origin: str
    clock: Clock
    random: Callable[[int], bytes] = secrets.token_bytes

    def append(self, session: Session, records: Iterable[Record], key: SigningKey) -> bool:
        """Append records that are not in the log yet and sign the new checkpoint; returns whether the log grew.

        A key that signs here for the first time is logged before them, so that the log records each rotation.
        """
        by_source = {record.source: record for record in (_first_use(key.public), *records)}
        # The row lock keeps two writers from appending at the same position.
        head = self.tables.head
        size, peaks = session.execute(select(head.c.size, head.c.peaks).with_for_update()).one()
        edge = merkle.Frontier(size, tuple(bytes.fromhex(peak) for peak in peaks.split()))
        log = Log(self.origin, edge)
        present = self.known(session, by_source)
        for record in (by_source[source] for source in by_source if source not in present):
            log = self._add(session, log, record)
        # Nothing new: signing again would only add an equal checkpoint.
        if log.frontier.size == size:
            return False
        frontier = log.frontier
        session.execute(update(head).values(size=frontier.size, peaks=self.peaks(frontier)))
        self._keep(session, sign_checkpoint(log.checkpoint, key), frontier.size)

        return True

    @staticmethod
    def peaks(edge: merkle.Frontier) -> str:
        """The stored form of the growing edge."""
        return " ".join(peak.hex() for peak in edge.peaks)

    def _add(self, session: Session, log: Log, record: Record) -> Log:
        salt = self.random(SALT_BYTES)
        position = log.frontier.size
        entry = Entry(commitment(record.document, salt), record.kind, time_text(self.clock()))
        longer, leaf = append(log, entry)
        session.execute(insert(self.tables.leaves).values(position=position, leaf=leaf.decode()))
        row = {"source": record.source, "position": position, "document": record.document.decode(), "salt": salt.hex()}
        session.execute(insert(self.tables.vault).values(row))

        return longer

    def _keep(self, session: Session, envelope: dsse.Envelope, size: int) -> None:
        text = dsse.encode_envelope(envelope).decode()
        session.execute(insert(self.tables.checkpoints).values(size=size, envelope=text))

    def salt_of(self, session: Session, source: str) -> bytes:
        """A salt in the vault under a name without a leaf, generated at the first call."""
        vault = self.tables.vault
        salt = session.scalar(select(vault.c.salt).where(vault.c.source == source))
        if salt is None:
            salt = self.random(SALT_BYTES).hex()
            session.execute(insert(vault).values(source=source, position=None, document="", salt=salt))

        return bytes.fromhex(salt)

    def erase(self, session: Session, source: str) -> bool:
        """Erase the content of a leaf, or a salt; the leaf stays but means nothing. Returns whether it was there."""
        vault = self.tables.vault
        there = update(vault).where(vault.c.source == source, vault.c.salt != "").values(document="", salt="")
        return bool(session.execute(there).rowcount)  # type: ignore[attr-defined]  # of an update it has one

    def known(self, session: Session, sources: Iterable[str]) -> frozenset[str]:
        """Which of these names were logged, erased or not."""
        vault = self.tables.vault
        names = sorted(sources)
        result: set[str] = set()
        for start in range(0, len(names), AT_ONCE):
            some = vault.c.source.in_(names[start : start + AT_ONCE])
            result.update(session.scalars(select(vault.c.source).where(some, vault.c.position.is_not(None))))

        return frozenset(result)

    def opened(self, session: Session, source: str) -> Opened | None:
        """The content logged under a name; None if there is none, or it was erased."""
        vault = self.tables.vault
        there = (vault.c.source == source, vault.c.position.is_not(None), vault.c.salt != "")
        row = session.execute(select(vault).where(*there)).first()

        return None if row is None else _opened(row)

    def sources(self, session: Session, prefix: str) -> list[str]:
        """The names with a prefix under which something was logged, erased or not."""
        vault = self.tables.vault
        # Escaped: `_` and `%` in a prefix are no wildcards.
        there = (vault.c.position.is_not(None), vault.c.source.startswith(prefix, autoescape=True))
        return [*session.scalars(select(vault.c.source).where(*there))]

    def vault(self, session: Session, prefix: str = "") -> list[Opened]:
        """All content that was not erased, of sources with a prefix if one is given, in the order of the log."""
        vault = self.tables.vault
        there = [vault.c.position.is_not(None), vault.c.salt != ""]
        if prefix:
            there.append(vault.c.source.startswith(prefix, autoescape=True))
        rows = session.execute(select(vault).where(*there).order_by(vault.c.position))

        return [_opened(row) for row in rows]

    def leaves(self, session: Session) -> list[bytes]:
        """All leaves, oldest first."""
        leaves = self.tables.leaves
        return [leaf.encode() for leaf in session.scalars(select(leaves.c.leaf).order_by(leaves.c.position))]

    def leaf(self, session: Session, position: int) -> bytes:
        """One leaf."""
        leaves = self.tables.leaves
        return str(session.scalars(select(leaves.c.leaf).where(leaves.c.position == position)).one()).encode()

    def newest(self, session: Session) -> dsse.Envelope | None:
        """The newest checkpoint; None if the log is empty."""
        return next(iter(self.checkpoints(session, at_most=1)), None)

    def checkpoints(self, session: Session, at_most: int | None = None) -> list[dsse.Envelope]:
        """Checkpoints with all their signatures, newest first."""
        rows = self.tables.checkpoints
        query = select(rows.c.envelope).order_by(rows.c.size.desc()).limit(at_most)
        return [dsse.decode_envelope(text.encode()) for text in session.scalars(query)]

    def grown_since(self, session: Session, size: int) -> tuple[bytes, ...]:
        """Proof that the current log extends its first `size` leaves."""
        return merkle.consistency_proof(self.leaves(session), size)

    def take_signature(
        self, session: Session, envelope: dsse.Envelope, owner: PublicKey, peer: PublicKey
    ) -> Checkpoint:
        """Store a peer's signature of a checkpoint of this log.

        Raises:
            EvidenceError: a signature does not hold, or the checkpoint is not of this log.
        """
        keys = PinnedKeys.of([(OWNER, owner), (PEER, peer)])
        checkpoint, _ = read_checkpoint(envelope, keys, {OWNER: 1, PEER: 1})
        rows = self.tables.checkpoints
        text = session.scalar(select(rows.c.envelope).where(rows.c.size == checkpoint.size).with_for_update())
        ours = None if text is None else dsse.decode_envelope(text.encode())
        if ours is None or ours.payload != envelope.payload:
            raise EvidenceError("a co-signed checkpoint that is not of this log")
        # Both sides may have added signatures meanwhile; none is lost.
        by_key = {signature.keyid: signature for signature in (*envelope.signatures, *ours.signatures)}
        signatures = tuple(by_key[keyid] for keyid in sorted(by_key))
        whole = dsse.encode_envelope(dsse.Envelope(ours.payload, ours.payload_type, signatures)).decode()
        session.execute(update(rows).where(rows.c.size == checkpoint.size).values(envelope=whole))

        return checkpoint

    def peer(self, session: Session, origin: str) -> Peer | None:
        """Another log, as last co-signed here."""
        return next((peer for peer in self.peers(session) if peer.origin == origin), None)

    def peers(self, session: Session) -> list[Peer]:
        """All other logs that were co-signed here."""
        rows = session.execute(select(self.tables.peers).order_by(self.tables.peers.c.origin))
        return [Peer(r.origin, dsse.decode_envelope(r.envelope.encode()), r.seen, r.trouble) for r in rows]

    def cosign(
        self,
        session: Session,
        origin: str,
        envelope: dsse.Envelope,
        owner: PublicKey,
        key: SigningKey,
        proof: Sequence[bytes],
    ) -> dsse.Envelope:
        """Co-sign the checkpoint of the log `origin`, if it extends the one co-signed here before.

        Raises:
            EvidenceError: the log was cut short or forked, is another one, or its owner did not sign.
        """
        peer = self.peer(session, origin)
        keys = PinnedKeys.of([(OWNER, owner)])
        checkpoint, _ = read_checkpoint(envelope, keys, {OWNER: 1})
        if checkpoint.origin != origin:
            raise EvidenceError(f"a checkpoint of log {checkpoint.origin!r}, not of {origin!r}")
        result = cosign(envelope, key, keys, OWNER, peer.checkpoint if peer else None, proof)
        rows = self.tables.peers
        text = dsse.encode_envelope(result).decode()
        session.execute(delete(rows).where(rows.c.origin == origin))
        session.execute(insert(rows).values(origin=origin, envelope=text, seen=self.clock(), trouble=""))

        return result

    def distrust(self, session: Session, origin: str, reason: str) -> bool:
        """Record why a peer's checkpoint was refused; returns whether the reason is new."""
        rows = self.tables.peers
        statement = update(rows).where(rows.c.origin == origin, rows.c.trouble != reason).values(trouble=reason)
        return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # of an update it has one


def _first_use(key: PublicKey) -> Record:
    return Record(f"{KEY}:{key.keyid}", KEY, canonical({"key": key.pem.decode()}))


def origin_of(site: str) -> str:
    """Name of a site's log; it can never equal the coordinator's."""
    return f"site:{site}"


def only(envelope: dsse.Envelope, *keys: PublicKey) -> dsse.Envelope:
    """The envelope with only the signatures of these keys, for a reader who knows no others."""
    ids = {key.keyid for key in keys}
    signatures = tuple(signature for signature in envelope.signatures if signature.keyid in ids)
    return dsse.Envelope(envelope.payload, envelope.payload_type, signatures)


def signed_by(envelope: dsse.Envelope, key: PublicKey) -> bool:
    """Whether a signature names the key; it is not verified."""
    return any(signature.keyid == key.keyid for signature in envelope.signatures)


def _opened(row: Row[Any]) -> Opened:
    return Opened(row.source, row.position, row.document.encode(), bytes.fromhex(row.salt))
