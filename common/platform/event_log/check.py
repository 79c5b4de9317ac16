"""Check that a stored log is still what was signed: every leaf, every checkpoint, everything in the vault."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import EvidenceError, InputError
from common.evidence import dsse
from common.evidence.canonical import parse_canonical
from common.evidence.commitment import check_commitment
from common.evidence.keys import PinnedKeys, PublicKey
from common.evidence.log import merkle
from common.evidence.log.log_checkpoint import Checkpoint, read_checkpoint
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode
from common.platform.event_log.store import KEY, OWNER, EventLog, only


def own_key(log: EventLog, session: Session) -> PublicKey:
    """The owner's public key of today, as their log names it; the private half is not read.

    Raises:
        InputError: the log is empty.
    """
    documents = [parse_canonical(item.document) for item in log.vault(session, f"{KEY}:")]
    # The newest leaf of this kind names the key in use.
    keys = [str(document["key"]) for document in documents if isinstance(document, dict)]
    if not keys:
        raise InputError("the log is empty", remedy="`up` fills it")
    return PublicKey.from_pem(keys[-1].encode())


def problems(log: EventLog, session: Session, owner: PublicKey) -> list[str]:
    """What does not hold, in plain words; empty if everything holds."""
    leaves = log.leaves(session)
    faults = []
    roots = [merkle.EMPTY_ROOT.hex()]
    edge = merkle.Frontier()
    # The root after every leaf: a signed checkpoint may be of any size.
    for leaf in leaves:
        edge = edge.append(leaf)
        roots.append(edge.root.hex())

    signed_size = 0
    keys = _keys(log, session, owner)
    rows = log.tables.checkpoints

    for size, text in session.execute(select(rows.c.size, rows.c.envelope).order_by(rows.c.size)).all():
        checkpoint, names = _checkpoint(text.encode(), keys)
        if checkpoint is None:
            faults.append(f"the checkpoint of {size} leaves is not one that the owner of the log signed")
            continue

        # By the key of today alone: whoever has an earlier key could sign what came later.
        signed_size = checkpoint.size if OWNER in names else signed_size
        faults += _against(checkpoint, roots, log.origin)

    if signed_size < edge.size:
        faults.append(f"{edge.size - signed_size} leaves stand after the last checkpoint signed with the key of today")
    head = log.tables.head
    # The next append builds on the stored edge, so a wrong one would break the log from there on.
    if session.execute(select(head.c.size, head.c.peaks)).one() != (edge.size, log.peaks(edge)):
        faults.append("the growing edge is not that of the leaves")
    return [*faults, *_vault(log, session, leaves)]


def _keys(log: EventLog, session: Session, owner: PublicKey) -> dict[str, PublicKey]:
    """The owner's current key and the earlier keys that the log names; peers who saw those can confirm them."""
    documents = (parse_canonical(item.document) for item in log.vault(session) if item.source.startswith(f"{KEY}:"))
    known_keys = [
        PublicKey.from_pem(str(document["key"]).encode()) for document in documents if isinstance(document, dict)
    ]
    return {OWNER: owner, **{key.keyid: key for key in known_keys if key != owner}}


def _checkpoint(data: bytes, keys: dict[str, PublicKey]) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The checkpoint and the names of the keys that signed it; None if no key of the log did."""
    try:
        # Signatures of peers are left out: their keys need not be known here.
        envelope = only(dsse.decode_envelope(data), *keys.values())
        return read_checkpoint(envelope, PinnedKeys.of(keys.items()), {})
    except EvidenceError:
        return None, ()


def _against(checkpoint: Checkpoint, roots: list[str], origin: str) -> Iterator[str]:
    size = checkpoint.size
    if checkpoint.origin != origin:
        yield f"a checkpoint of log {checkpoint.origin!r} among those of {origin!r}"
    elif size >= len(roots):
        yield f"the log was cut short: {len(roots) - 1} leaves, {size} were signed"
    elif roots[size] != checkpoint.root:
        yield f"the log was changed: its first {size} leaves do not have the root that was signed"


def _vault(log: EventLog, session: Session, leaves: list[bytes]) -> Iterator[str]:
    for item in log.vault(session):
        try:
            # A leaf that is missing is reported by its checkpoint already.
            if item.position < len(leaves):
                entry = decode(Entry, leaves[item.position])
                check_commitment(item.document, item.salt, entry.commitment)
        except EvidenceError as err:
            yield f"leaf {item.position}: {err}"
