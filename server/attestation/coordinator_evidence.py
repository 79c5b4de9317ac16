"""The coordinator's side of evidence, with one site at a time: logs are co-signed, attestations told of and signed.

What a site shows and does not hold is refused, written down as an event, and so ends up in the log itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.keys import PublicKey, SigningKey
from common.platform.event_log.store import EventLog, only, origin_of
from common.platform.sql import transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.bounds import MAX_CAMPAIGNS
from server.attestation import attestation
from server.attestation.event_log import follow
from server.attestation.withheld import PATIENCE
from server.database import EventRow, SiteRow

SHA256_BYTES = 32
AT_ONCE = 8
"""Attestations sent in one answer; the next call gets the next ones."""


@dataclass(frozen=True, slots=True)
class CoordinatorEvidence:
    """What the two rpcs do once the caller is known."""

    engine: Engine
    log: EventLog
    key: SigningKey
    patience: timedelta = PATIENCE
    """Before an attestation is written without a site's answer."""

    def keep_up(self) -> None:
        """Bring the log up to what happened, and write the attestations that wait for nobody's answer any more."""
        follow(self.engine, self.log, self.key)
        attestation.issue(self.engine, self.log, self.key, self.patience)

    def checkpoint(
        self, site: SiteRow, request: messages.ExchangeCheckpointRequest
    ) -> messages.ExchangeCheckpointReply:
        """Co-sign the site's log if it only grew, take its signature below ours, and show ours of now.

        Raises:
            EvidenceError: the site's log was cut short or forked, or a signature does not hold.
        """
        # The log that is shown must have in it what happened so far.
        self.keep_up()
        owner = PublicKey.from_pem(site.signing_key.encode())
        origin = origin_of(site.name)
        reply = messages.ExchangeCheckpointReply()

        try:
            with transaction(self.engine) as session:
                if request.cosigned:
                    envelope = dsse.decode_envelope(request.cosigned)
                    self.log.take_signature(session, envelope, self.key.public, owner)

                if request.checkpoint:
                    self._cosign(session, origin, request, owner, reply)
                self._show(session, request.seen, owner, reply)
        except EvidenceError as err:
            self._refuse(site.name, origin, err)
            raise

        return reply

    def _cosign(
        self,
        session: Session,
        origin: str,
        request: messages.ExchangeCheckpointRequest,
        owner: PublicKey,
        reply: messages.ExchangeCheckpointReply,
    ) -> None:
        peer = self.log.peer(session, origin)
        reply.known = peer.checkpoint.size if peer else 0
        # The proof starts elsewhere: the site learns the size that is known here, and calls again.
        if request.since != reply.known:
            return
        envelope = dsse.decode_envelope(request.checkpoint)
        cosignature = self.log.cosign(session, origin, envelope, owner, self.key, tuple(request.proof))
        reply.cosigned = dsse.encode_envelope(cosignature)

    def _show(self, session: Session, seen: int, site: PublicKey, reply: messages.ExchangeCheckpointReply) -> None:
        newest = self.log.newest(session)
        if newest is not None:
            reply.checkpoint = dsse.encode_envelope(only(newest, self.key.public, site))
            # A site that has seen more leaves than there are gets no proof: this log was cut short.
            if seen <= len(self.log.leaves(session)):
                reply.proof.extend(self.log.grown_since(session, seen))

    def _refuse(self, site: str, origin: str, err: EvidenceError) -> None:
        detail = f"its log: {err}"
        # In a transaction of its own: what was refused must be on record although the other one was rolled back.
        with transaction(self.engine) as session:
            if self.log.distrust(session, origin, str(err)):
                session.add(EventRow(at=self.log.clock(), site=site, kind="log-refused", detail=detail))

        follow(self.engine, self.log, self.key)

    def attestations(
        self, site: SiteRow, request: messages.ExchangeAttestationsRequest
    ) -> messages.ExchangeAttestationsReply:
        """Take down the site's answers and signatures, and say what is still wanted of it.

        Raises:
            EvidenceError: a signature does not hold.
        """
        with transaction(self.engine) as session:
            attestation.begin(session)
            for item in request.answers:
                # Anything else could carry text, and so a name, into what is signed and handed to auditors.
                if any(len(digest) != SHA256_BYTES for digest in item.revocations):
                    raise EvidenceError("a revocation's digest that is malformed")
                attestation.answer(session, site.name, item.campaign, [digest.hex() for digest in item.revocations])

            for data in request.signed:
                envelope = dsse.decode_envelope(data)
                attestation.take_signature(session, site, envelope, self.key.public, self.log)

        # These answers may complete an attestation, which then waits for a signature below.
        self.keep_up()
        with transaction(self.engine) as session:
            waiting = attestation.unsigned_by(session, site, self.key.public)[:AT_ONCE]
            return messages.ExchangeAttestationsReply(
                wanted=attestation.wanted(session, site.name)[:MAX_CAMPAIGNS],
                waiting=map(dsse.encode_envelope, waiting),
            )
