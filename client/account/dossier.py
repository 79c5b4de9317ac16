"""The site's dossier about one receipt: the record, opened leaves of the log, the attestation, the verifier.

It needs no signing key: the leaves lie under checkpoints that the site and the coordinator have signed before.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from client.account import dossier_facts
from client.account.account import accounts_of
from client.account.export import as_json
from client.evidence.attestations import kept_attestation
from client.evidence.event_log import SiteLog
from client.evidence.log_records import sources_about
from client.revocations.ledger import Ledger
from client.revocations.linkage.tokens import Linkage
from common.errors import InputError
from common.evidence.dsse import decode_envelope
from common.evidence.keys import PublicKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.opened_leaf import open_leaf
from common.evidence.schema import decode, encode
from common.evidence.statements import read_unlearning
from common.platform.dossier.archive import Content, assemble
from common.platform.dossier.archive import as_json as encoded
from common.platform.event_log.check import own_key
from common.platform.event_log.report import key_history
from common.platform.event_log.store import Opened, only, signed_by

_CAMPAIGN_KINDS = ("access-opened:{0}", "access-closed:{0}", "ended:{0}")
_ATTESTATION = "attestation.json"


def dossier(ledger: Ledger, linkage: Linkage | None, receipt: str) -> bytes:
    """The archive about a receipt; the same record makes the same bytes.

    Raises:
        ConfigError: WeasyPrint is not installed.
        InputError: no such receipt, or the site has not joined a federation.
    """
    accounts = accounts_of(ledger, linkage, receipt)
    if not accounts:
        raise InputError("no such receipt", remedy="see fedforget-site revocations list")
    campaigns = sorted({one.standing.campaign for one in accounts if one.standing.campaign is not None})
    site = SiteLog(ledger.folder, ledger.engine, ledger.clock)
    coordinator = site.coordinator()

    with site.reading() as session:
        ours = own_key(site.log, session)
        history = encode(key_history(site.log, session, "site"))
        leaves = dict(_leaves(site, session, receipt, campaigns, ours, coordinator))

    attestation = kept_attestation(ledger.folder, campaigns[-1]) if campaigns else None
    unlearning = None if attestation is None else read_unlearning(decode_envelope(attestation).body)[1]
    recipients = dossier_facts.recipients(accounts, unlearning)
    deletions = dossier_facts.deletions(ledger, accounts, campaigns)
    files = {
        **leaves,
        "record.json": as_json(accounts).encode(),
        "recipients.json": encoded(recipients),
        "deletions.json": encoded(deletions),
        "training.json": encoded(dossier_facts.training(accounts)),
        "keys.json": history,
        "site.pub": ours.pem,
        "server.pub": coordinator.pem,
    }
    missing = {} if leaves else {"leaf-*.json": "the coordinator has not co-signed the log yet"}

    if attestation is None:
        missing[_ATTESTATION] = "no campaign has ended for this receipt, or it was signed elsewhere"
    else:
        files[_ATTESTATION] = attestation

    command = [f"python verify.pyz {_ATTESTATION} --key site=site.pub --key server=server.pub"]
    command += [f"--leaf {name}" for name in sorted(leaves)]
    lead = ["It names the receipt and no patient. record.json has every step."]

    return assemble(
        Content(
            side="site",
            title=f"Dossier of receipt {receipt} at {site.name}",
            lead=lead,
            files=files,
            sections=dossier_facts.sections(accounts, unlearning, recipients, deletions),
            figures=dossier_facts.figures(unlearning),
            limits=() if unlearning is None else unlearning.limits,
            missing=missing,
            command="" if attestation is None else " ".join(command),
        )
    )


def _leaves(
    site: SiteLog, session: Session, receipt: str, campaigns: list[int], ours: PublicKey, coordinator: PublicKey
) -> Iterator[tuple[str, bytes]]:
    sources = sources_about(site.log, session, receipt)
    # Of the last campaign alone, whose attestation is enclosed.
    sources += [kind.format(campaign) for campaign in campaigns[-1:] for kind in _CAMPAIGN_KINDS]
    records = [item for source in sources if (item := site.log.opened(session, source)) is not None]
    if not records:
        return

    # One checkpoint for all of them: the newest that both have signed, which covers the most leaves.
    for envelope in site.log.checkpoints(session):
        # Signed by the site alone, it could be made up for this dossier.
        if not (signed_by(envelope, ours) and signed_by(envelope, coordinator)):
            continue
        size = decode(Checkpoint, envelope.body).size
        leaves = site.log.leaves(session)[:size]
        for item in records:
            if item.position < size:
                co_signed = only(envelope, ours, coordinator)
                leaf = open_leaf(co_signed, leaves, item.position, item.document, item.salt)
                yield f"leaf-{_name(item)}.json", encode(leaf)
        return


def _name(item: Opened) -> str:
    # Exceptions are numbered, as a receipt can have several.
    kind, _, rest = item.source.partition(":")
    return f"{kind}-{rest.rpartition(':')[2]}" if kind == "exempted" else kind
