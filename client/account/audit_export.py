"""Writes the site's AuditEvents to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from client.account.audit_events import Leaf, Parties, audit_events
from client.evidence.event_log import SiteLog
from client.revocations.opening import open_ledger
from common.errors import OutputError
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode
from common.files import write_bytes, write_private


def export_audit_events(
    site: SiteLog, path: Path, interactions: Mapping[str, str] | None = None, *, with_patients: bool = False
) -> int:
    """Write one AuditEvent per line (NDJSON) and return their number.

    A file that names patients is readable by its owner only and replaces no existing file. `interactions` says by
    receipt how consents were handed in.

    Raises:
        OutputError: the file cannot be written, or would name patients and already exists.
    """
    with site.reading() as session:
        documents = {item.position: item.document for item in site.log.vault(session)}
        entries = site.log.leaves(session)

    leaves = [Leaf(place, decode(Entry, leaf), documents.get(place)) for place, leaf in enumerate(entries)]
    parties = Parties(site.name, site.folder.settings().coordination)
    events = [*audit_events(leaves, parties, _patients(site) if with_patients else None, interactions)]
    lines = "".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in events)

    if not with_patients:
        write_bytes(path, lines.encode())
    elif path.exists():
        raise OutputError("exists already", where=str(path), remedy="choose another file")
    else:
        write_private(path, lines.encode())

    return len(events)


def _patients(site: SiteLog) -> dict[str, list[str]]:
    """Identifiers by receipt."""
    patients: dict[str, list[str]] = {}

    with open_ledger(site.folder) as ledger:
        names = ledger.identifiers()
        for standing in ledger.standing():
            if standing.pseudonym in names:
                patients.setdefault(standing.receipt, []).append(names[standing.pseudonym])

    return patients
