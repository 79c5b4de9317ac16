"""A log for people: the newest leaves with their content, its co-signers, and a folder for an auditor."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Group
from sqlalchemy.orm import Session

from common.evidence import dsse
from common.evidence.canonical import Json, parse_canonical
from common.evidence.key_history import KeyHistory, KeyRecord
from common.evidence.keys import PublicKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode, encode, time_text
from common.files import write_bytes
from common.platform.event_log.store import KEY, EventLog, signed_by
from common.platform.new_folder import new_folder
from common.platform.terminal.console import fields_table, rows_table

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WIDEST = 120


def report(log: EventLog, session: Session, owner: PublicKey, last: int) -> dict[str, Any]:
    """The newest `last` leaves, the newest checkpoint, and the other logs that were co-signed here."""
    leaves = log.leaves(session)
    vault = {item.position: item for item in log.vault(session)}
    newest = log.newest(session)
    rows: list[dict[str, Any]] = []

    for position in range(max(0, len(leaves) - last), len(leaves)):
        entry = decode(Entry, leaves[position])
        item = vault.get(position)
        what: Json = "erased" if item is None else parse_canonical(item.document)
        rows.append({"position": position, "time": entry.time, "kind": entry.kind, "what": what})

    return {
        "origin": log.origin,
        "size": len(leaves),
        "root": None if newest is None else decode(Checkpoint, newest.body).root,
        "key": owner.keyid,
        "cosigned": _cosigned(log, session, owner),
        "leaves": rows,
        "peers": [
            {"origin": p.origin, "size": p.checkpoint.size, "seen": p.seen, "trouble": p.trouble or None}
            for p in log.peers(session)
        ],
    }


def _cosigned(log: EventLog, session: Session, owner: PublicKey) -> int:
    """Size of the newest checkpoint that a peer has co-signed."""
    for envelope in log.checkpoints(session):
        # The owner's signature, and at least one of somebody else.
        if signed_by(envelope, owner) and len(envelope.signatures) > 1:
            return decode(Checkpoint, envelope.body).size

    return 0


def drawn(summary: dict[str, Any]) -> Group:
    """A report for the terminal."""
    fields = {name: summary[name] for name in ("origin", "size", "root", "key", "cosigned")}
    leaves = ((row["position"], row["time"], row["kind"], brief(row["what"])) for row in summary["leaves"])
    peers = (row.values() for row in summary["peers"])

    return Group(
        fields_table(fields),
        rows_table(("leaf", "time", "kind", "what"), leaves),
        rows_table(("co-signed here", "leaves", "seen", "refused since"), peers),
    )


def brief(what: Json) -> str:
    """The content of a leaf in one line."""
    if not isinstance(what, dict):
        return str(what)
    if "_type" in what:
        return "a signed statement"
    fields = {name: value for name, value in what.items() if name not in {"at", "kind", "event"} and value}

    return ", ".join(f"{name} {_short(value)}" for name, value in fields.items())


def _short(value: Json) -> str:
    if isinstance(value, list):
        return str(len(value))
    if isinstance(value, dict):
        return " ".join(f"{name}={count}" for name, count in value.items())
    text = str(value)
    return f"{text[:12]}..." if _DIGEST.fullmatch(text) else text[:_WIDEST]


def key_history(log: EventLog, session: Session, name: str) -> KeyHistory:
    """The keys that signed the log, each from its first use until the first use of the next."""
    records: list[KeyRecord] = []

    for item in log.vault(session):
        value = parse_canonical(item.document)
        if item.source.startswith(f"{KEY}:") and isinstance(value, dict):
            start = decode(Entry, log.leaf(session, item.position)).time
            if records:
                # Times are whole seconds: the old key may still have signed in the second in which the new one started.
                records[-1] = replace(records[-1], valid_until=_second_after(start))

            records.append(KeyRecord(name, str(value["key"]), start))

    return KeyHistory(tuple(records))


def _second_after(text: str) -> str:
    return time_text(datetime.fromisoformat(text) + timedelta(seconds=1))


def export(log: EventLog, session: Session, owner: PublicKey, name: str, folder: Path) -> list[str]:
    """Write the public keys, all leaves, the newest checkpoint and those of the other logs to a new folder.

    Raises:
        OutputError: the folder has content, or cannot be written.
    """
    newest = log.newest(session)

    with new_folder(folder) as part:
        write_bytes(part / f"{name}.pub", owner.pem)
        write_bytes(part / "keys.json", encode(key_history(log, session, name)))
        write_bytes(part / "leaves.jsonl", b"".join(leaf + b"\n" for leaf in log.leaves(session)))
        if newest is not None:
            write_bytes(part / "checkpoint.json", dsse.encode_envelope(newest))
        for peer in log.peers(session):
            file = f"checkpoint-of-{peer.origin.replace(':', '-')}.json"
            write_bytes(part / file, dsse.encode_envelope(peer.envelope))

        return sorted(path.name for path in part.iterdir())
