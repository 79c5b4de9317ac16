"""Attestations of campaigns: begun once a version is published, written when its sites have answered, then co-signed.

None of it holds up a publication. What is waited for stands in the database and is asked for at a site's next call.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from common.errors import EvidenceError, InputError
from common.evidence import dsse, statements
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.schema import decode
from common.platform.event_log.store import PEER, EventLog, Record, only, signed_by
from common.platform.sql import transaction
from server.attestation import withheld
from server.attestation.event_log import follow
from server.attestation.statement import compose
from server.database import AttestationRow, CampaignRow, DeliveryRow, EventRow, PhaseRow, SiteRow

_log = logging.getLogger("fedforget.evidence")

SERVER = "server"
"""Name under which the coordinator's key is pinned."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the attestation of a campaign is.

    Attributes:
        campaign: its number.
        version: what it attests.
        revocations: how many it answers, as far as sites have said.
        unanswered: sites that have not said which revocations they answer by the version.
        unsigned: sites that have revocations in it and have not signed.
        signers: who has signed.
        envelope: the file, None before it is written.
    """

    campaign: int
    version: str
    revocations: int
    unanswered: tuple[str, ...]
    unsigned: tuple[str, ...]
    signers: tuple[str, ...]
    envelope: dsse.Envelope | None
    since: datetime | None = None
    """When those were asked who have not answered, or not signed."""

    @property
    def text(self) -> str:
        """In one line."""
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d}"
        missing = ", ".join(self.unanswered)
        if self.envelope is None and missing:
            return f"waits for {missing}{since} to say which revocations are answered"
        if self.envelope is None and self.revocations:
            return "cannot be written: see the events of the campaign"
        if self.envelope is None:
            return "no site answered a revocation by it: there is nothing to attest"
        parts = [f"signed by {', '.join(self.signers)}"]
        if self.unsigned:
            parts.append(f"not signed by {', '.join(self.unsigned)}{since}")
        if missing:
            parts.append(f"written without an answer of {missing}: none of its patients is attested")

        return "; ".join(parts)


def begin(session: Session) -> None:
    """Open an attestation for every published version by which patients are forgotten."""
    campaigns_known = select(AttestationRow.campaign)
    rows = select(PhaseRow).where(PhaseRow.step == "published", PhaseRow.campaign.not_in(campaigns_known))

    for phase in session.scalars(rows).all():
        campaign = session.get_one(CampaignRow, phase.campaign)
        # A first training forgets nobody; the record of an open campaign is not complete yet.
        if phase.body["how"] == "trained" or campaign.open is not None:
            continue
        sites = dict.fromkeys(_asked(session, phase))
        session.add(AttestationRow(campaign=phase.campaign, version=phase.body["version"], sites=sites, issued=None))


def _asked(session: Session, published: PhaseRow) -> Sequence[str]:
    """Who said that patients are to be forgotten, less those who did not unlearn and were set aside.

    A retraining forgets whoever had revoked by then: whoever closed revocations when it got the version is asked too.
    """
    steps = select(PhaseRow).where(PhaseRow.campaign == published.campaign, PhaseRow.step.in_(("collect", "aside")))
    bodies = {row.step: row.body for row in session.scalars(steps)}
    forgetting = set(bodies.get("collect", {}).get("forgetting", ()))
    if published.body["how"] not in {"retrained", "exact"}:
        return sorted(forgetting - set(bodies.get("aside", {}).get("sites", ())))
    if "collect" not in bodies:
        # A retraining that collected nothing: whoever got the version may have forgotten patients by it.
        recipients = select(DeliveryRow.site).where(DeliveryRow.version == published.body["version"])
        return session.scalars(recipients.order_by(DeliveryRow.site)).all()

    closed_sites = select(EventRow.site).where(EventRow.campaign == published.campaign, EventRow.kind == "forgotten")

    return sorted(forgetting | {site for site in session.scalars(closed_sites) if site is not None})


def wanted(session: Session, site: str) -> tuple[int, ...]:
    """Campaigns of which the site has still to say which revocations it answers by them."""
    rows = session.scalars(
        select(AttestationRow).where(AttestationRow.envelope == "").order_by(AttestationRow.campaign)
    )
    return tuple(row.campaign for row in rows if site in row.sites and row.sites[site] is None)


def answer(session: Session, site: str, campaign: int, revocations: Collection[str]) -> None:
    """Take down the digests of the revocations that a site answers by a campaign; what it said first stands."""
    row = session.get(AttestationRow, campaign, with_for_update=True)
    # Once it is written it is signed: a late or changed answer would not be in what others signed.
    if row is not None and not row.envelope and site in row.sites and row.sites[site] is None:
        row.sites = {**row.sites, site: sorted(set(revocations))}


def issue(engine: Engine, log: EventLog, key: SigningKey, patience: timedelta = withheld.PATIENCE) -> tuple[int, ...]:
    """Write and sign the attestations for which every site has answered, or had time to; their campaigns.

    One that cannot be written is an event of its campaign, once, and keeps no other from being written.
    """
    with transaction(engine) as session:
        begin(session)
        _sign_again(session, key)
        rows = session.scalars(select(AttestationRow).where(AttestationRow.envelope == "")).all()
        now = log.clock()
        ready = [
            row.campaign
            for row in rows
            if any(row.sites.values()) and not withheld.waits_for(session, row, now, patience)
        ]
        # Only an event: a signature that never comes does not take the attestation back.
        for row in _unsigned_for(session, now - patience):
            withheld.report_unsigned(session, row, _unsigned(session, row), now)

    # The statement names a checkpoint, which must cover what the statement refers to.
    if ready:
        follow(engine, log, key)
    lines_written = []
    # Each in a transaction of its own: one that cannot be written must not undo the others.
    for number in ready:
        try:
            with transaction(engine) as session:
                _issue(session, session.get_one(AttestationRow, number, with_for_update=True), log, key)
        except (EvidenceError, ValidationError) as err:
            # A setting of an older version that is none any more would be quoted with its value.
            _not_written(
                engine, log, number, str(err) if isinstance(err, EvidenceError) else "settings of another version"
            )
            continue

        lines_written.append(number)
        follow(engine, log, key)

    return tuple(lines_written)


def _sign_again(session: Session, key: SigningKey) -> None:
    """After a change of the coordinator's key, also sign with the new one what hospitals have still to sign.

    They know no other key by then.
    """
    for row in session.scalars(select(AttestationRow).where(AttestationRow.envelope != "")).all():
        envelope = dsse.decode_envelope(row.envelope.encode())
        if _unsigned(session, row) and not signed_by(envelope, key.public):
            row.envelope = dsse.encode_envelope(dsse.add_signature(envelope, key)).decode()


def _unsigned_for(session: Session, before: datetime) -> Sequence[AttestationRow]:
    """Attestations that were written before this time and lack a signature."""
    attestations = select(AttestationRow).where(AttestationRow.envelope != "", AttestationRow.issued < before)
    return [row for row in session.scalars(attestations) if _unsigned(session, row)]


def _not_written(engine: Engine, log: EventLog, number: int, why: str) -> None:
    of_campaign = (EventRow.campaign == number, EventRow.kind == "not-attested", EventRow.detail == why)
    with transaction(engine) as session:
        if session.scalars(select(EventRow.id).where(*of_campaign)).first() is None:
            session.add(EventRow(at=log.clock(), campaign=number, kind="not-attested", detail=why))
            _log.error("campaign %d: its attestation cannot be written: %s", number, why)


def _issue(session: Session, row: AttestationRow, log: EventLog, key: SigningKey) -> None:
    since = log.newest(session)
    if row.envelope or since is None:
        return
    # One moment for the statement, the row and the event.
    row.issued = log.clock()
    payload = compose(session, row, decode(Checkpoint, since.body), row.issued)
    row.envelope = dsse.encode_envelope(dsse.sign(statements.PAYLOAD_TYPE, payload, key)).decode()
    log.append(session, [Record(f"attestation:{row.campaign}", "attestation", payload)], key)
    withheld.report_unanswered(session, row, row.issued)
    waits = ", ".join(_with_revocations(row))
    detail = f"{row.version}: signed by the coordinator, waits for {waits}"
    session.add(EventRow(at=row.issued, campaign=row.campaign, kind="attested", detail=detail))


def unsigned_by(session: Session, site: SiteRow, server: PublicKey) -> list[dsse.Envelope]:
    """Attestations that answer the site's revocations and lack its signature, with the coordinator's alone."""
    rows = session.scalars(
        select(AttestationRow).where(AttestationRow.envelope != "").order_by(AttestationRow.campaign)
    )
    return [
        only(dsse.decode_envelope(row.envelope.encode()), server)
        for row in rows
        if site.name in _unsigned(session, row)
    ]


def take_signature(session: Session, site: SiteRow, envelope: dsse.Envelope, server: PublicKey, log: EventLog) -> int:
    """Add a site's signature to an attestation and return its campaign; a signature that is there is passed by.

    Raises:
        EvidenceError: a signature does not hold, or it is no attestation of this coordinator.
    """
    own = PublicKey.from_pem(site.signing_key.encode())
    pins = PinnedKeys.of([(SERVER, server), (PEER, own)])
    dsse.verify(envelope, statements.PAYLOAD_TYPE, pins, {SERVER: 1, PEER: 1})

    # Locked: of two hospitals that sign at the same moment, each must keep the other's signature.
    for row in session.scalars(select(AttestationRow).where(AttestationRow.envelope != "").with_for_update()):
        ours = dsse.decode_envelope(row.envelope.encode())
        if ours.payload != envelope.payload or site.name not in _with_revocations(row):
            continue
        signatures = {signature.keyid: signature for signature in (*envelope.signatures, *ours.signatures)}
        if site.name in _unsigned(session, row):
            # DSSE envelopes here have their signatures in the order of their keyids (ADR 3).
            all_signatures = tuple(signatures[keyid] for keyid in sorted(signatures))
            row.envelope = dsse.encode_envelope(dsse.Envelope(ours.payload, ours.payload_type, all_signatures)).decode()
            detail = f"{row.version}: signed by {site.name}"
            event = EventRow(at=log.clock(), campaign=row.campaign, site=site.name, kind="attested", detail=detail)
            session.add(event)

        return row.campaign

    raise EvidenceError("not an attestation that waits for this site's signature")


def find(session: Session, campaign: int) -> Standing | None:
    """How far the attestation of a campaign is; None if it has none."""
    row = session.get(AttestationRow, campaign)
    if row is None:
        return None
    missing_sites = _unsigned(session, row)
    signers = [name for name in _with_revocations(row) if name not in missing_sites]
    silent_sites = withheld.unanswered(row)
    answer_count = len({digest for digests in row.sites.values() for digest in digests or ()})
    if not row.envelope:
        since = withheld.asked_since(session, row)
        return Standing(row.campaign, row.version, answer_count, silent_sites, (), (), None, since)
    envelope = dsse.decode_envelope(row.envelope.encode())

    return Standing(
        row.campaign, row.version, answer_count, silent_sites, missing_sites, (SERVER, *signers), envelope, row.issued
    )


def standing(session: Session, campaign: int) -> Standing:
    """As `find`.

    Raises:
        InputError: the campaign has none.
    """
    current = find(session, campaign)

    if current is None:
        raise InputError(
            f"campaign {campaign} has no attestation",
            remedy="only a published version by which patients are forgotten has one, once `up` has seen it",
        )

    return current


def _with_revocations(row: AttestationRow) -> tuple[str, ...]:
    return tuple(name for name, digests in sorted(row.sites.items()) if digests)


def _unsigned(session: Session, row: AttestationRow) -> tuple[str, ...]:
    """By what was taken down of signatures: a site that has changed its key since has signed all the same."""
    if not row.envelope:
        return ()
    query = select(EventRow.site).where(EventRow.campaign == row.campaign, EventRow.kind == "attested")
    signers = set(session.scalars(query))

    return tuple(name for name in _with_revocations(row) if name not in signers)
