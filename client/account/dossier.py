"""Everything about one receipt as a ZIP archive for an auditor: the record, opened leaves of the log, the verifier.

It needs no signing key: the leaves lie under checkpoints that the site and the coordinator have signed before.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy.orm import Session

from client.account.account import accounts_of
from client.account.export import as_json
from client.evidence.attestations import kept_attestation
from client.evidence.event_log import SiteLog
from client.revocations.ledger import Ledger
from client.revocations.linkage.tokens import Linkage
from common.errors import InputError
from common.evidence.keys import PublicKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.opened_leaf import open_leaf
from common.evidence.schema import decode, encode
from common.evidence.stand_alone import verifier_archive
from common.platform.event_log.check import own_key
from common.platform.event_log.report import key_history
from common.platform.event_log.store import Opened, only, signed_by

_PACKED_AT = (1980, 1, 1, 0, 0, 0)
_KINDS = ("revocation", "tombstone", "steward", "hold", "hold-ended", "readmitted")
_CAMPAIGN_KINDS = ("access-opened:{0}", "access-closed:{0}", "ended:{0}")
_README = """\
Evidence about receipt {receipt}, written {now}.

record.json        what the hospital has on record about it, step by step; it names no patient
leaf-*.json        entries of the hospital's log, under a checkpoint that hospital and coordinator signed
attestation.json   what was measured when the model forgot, signed by both; missing while no campaign has ended for it
verify.pyz         the verifier: one file, needs Python and the package `cryptography`
site.pub, server.pub, keys.json   public keys; compare them with those that the two parties give you themselves

Check it:
  {command}

{missing}"""


def dossier(ledger: Ledger, linkage: Linkage | None, receipt: str, now: datetime) -> bytes:
    """The archive about a receipt; the same record makes the same bytes but for the date in its README.

    Raises:
        InputError: no such receipt, or the site has not joined a federation.
    """
    accounts = accounts_of(ledger, linkage, receipt)
    if not accounts:
        raise InputError("no such receipt", remedy="see fedforget-site revocations list")
    campaigns = sorted({one.standing.campaign for one in accounts if one.standing.campaign is not None})
    site = SiteLog(ledger.folder, ledger.engine, ledger.clock)
    coordinator = site.coordinator()
    files: dict[str, bytes] = {"record.json": as_json(accounts).encode(), "server.pub": coordinator.pem}

    with site.session() as session:
        ours = own_key(site.log, session)
        files["site.pub"] = ours.pem
        files["keys.json"] = encode(key_history(site.log, session, "site"))
        leaves = dict(_leaves(site, session, receipt, campaigns, ours, coordinator))

    attestation = kept_attestation(ledger.folder, campaigns[-1]) if campaigns else None
    files |= leaves
    command = ["python verify.pyz attestation.json --key site=site.pub --key server=server.pub"]
    command += [f"--leaf {name}" for name in sorted(leaves)]
    missing = "" if leaves else "No leaf is included: the coordinator has not co-signed the log yet.\n"

    if attestation is None:
        missing += "No attestation is included: no campaign has ended for this receipt, or it was signed elsewhere.\n"
    else:
        files["attestation.json"] = attestation

    readme = _README.format(receipt=receipt, now=f"{now:%Y-%m-%d}", command=" ".join(command), missing=missing)
    files |= {"README.txt": readme.encode(), "verify.pyz": verifier_archive()}

    return _packed(files)


def _leaves(
    site: SiteLog, session: Session, receipt: str, campaigns: list[int], ours: PublicKey, coordinator: PublicKey
) -> Iterator[tuple[str, bytes]]:
    sources = [f"{kind}:{receipt}" for kind in _KINDS]
    sources += [kind.format(campaign) for campaign in campaigns[-1:] for kind in _CAMPAIGN_KINDS]
    records = [item for source in sources if (item := site.log.opened(session, source)) is not None]
    if not records:
        return

    for envelope in site.log.checkpoints(session):
        if not (signed_by(envelope, ours) and signed_by(envelope, coordinator)):
            continue
        size = decode(Checkpoint, envelope.body).size
        leaves = site.log.leaves(session)[:size]
        for item in records:
            if item.position < size:
                co_signed = only(envelope, ours, coordinator)
                opened = open_leaf(co_signed, leaves, item.position, item.document, item.salt)
                yield f"leaf-{_name(item)}.json", encode(opened)
        return


def _name(item: Opened) -> str:
    return item.source.partition(":")[0]


def _packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _PACKED_AT), content)
    return buffer.getvalue()
