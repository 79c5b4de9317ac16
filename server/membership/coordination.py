"""The coordinator's side of the coordination service; who calls, and how a call is refused, is in `callers`."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import grpc
from sqlalchemy import Engine, select

from common.errors import RefusedError
from common.installation import own_version
from common.platform.listening import grpc_server
from common.platform.listening.rate_limit import RateLimit
from common.platform.sql import transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.bounds import MAX_DIGESTS, MAX_MESSAGE_BYTES
from common.protocol.coordination.coordination_pb2_grpc import add_CoordinationServicer_to_server
from server.database import CampaignRow, EventRow, SiteRow
from server.membership import linkage, registration, renewal
from server.membership.callers import Refusal, admitted, answered, digests_of, invalid, moment_of
from server.membership.partners import Desk, Versions
from server.membership.recipients import lists_for
from server.settings import GateConfig

SERVICE = "fedforget.coordination.v1.Coordination"
MAX_PENDING = 1_000_000
TOKEN_BYTES = 32
"""Of HMAC-SHA-256."""
DUE_WITHIN = timedelta(days=3653)
"""Of now, before and after; anything else is a mistake at the site."""
_VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,64}")
_SKEW = timedelta(minutes=5)

_log = logging.getLogger("fedforget.coordination")


class Coordination:
    """The service of `common/protocol/coordination/coordination.proto`."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], datetime],
        versions: Versions,
        limit: RateLimit | None = None,
        desk: Desk | None = None,
        gate: GateConfig | None = None,
        linkage: bool = True,
        issue: renewal.Issue | None = None,
        announced: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._versions = versions
        self._desk = desk
        self._gate = gate or GateConfig()
        self._limit = limit or RateLimit()
        self._linkage = linkage
        self._issue = issue
        self._announced = announced
        """Called when other revocations wait at a site than before."""

    @answered
    def Announce(self, request: messages.AnnounceRequest, context: grpc.ServicerContext) -> messages.AnnounceReply:
        """Take down how many revocations wait at the site, and when the first is due."""
        now, pem = self._caller(context)
        pending = request.pending
        if pending > MAX_PENDING:
            invalid(f"pending is beyond {MAX_PENDING}")
        due = moment_of(request.first_due, "first_due") if request.HasField("first_due") else None
        if due is not None and not pending:
            invalid("first_due without a pending revocation")
        if due is not None and abs(due - now) > DUE_WITHIN:
            invalid("first_due is years away")
        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
            is_news = (pending, due) != (site.pending, site.first_due)
            if is_news:
                # Fewer than before: a campaign took the older ones, those left came later.
                if not site.pending or pending < site.pending:
                    site.announced = now if pending else None
                site.pending = pending
                site.first_due = due
                detail = f"{pending} waiting" + (f", first due {due.isoformat(timespec='seconds')}" if due else "")
                session.add(EventRow(at=now, site=site.name, kind="announced", detail=detail))
                _log.info("%s announced: %s", site.name, detail)

        # After the commit: the loop that this wakes must read the new numbers.
        if is_news:
            self._announced()
        return messages.AnnounceReply()

    @answered
    def Heartbeat(self, request: messages.HeartbeatRequest, context: grpc.ServicerContext) -> messages.HeartbeatReply:
        """Take down that the site lives, and tell it what to delete."""
        now, pem = self._caller(context)
        digests_here = digests_of(request.held)
        if not _VERSION.fullmatch(request.version):
            invalid("version is not one")
        skew = moment_of(request.clock, "clock") - now
        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
            if site.version != request.version:
                detail = f"{site.version or 'none'} -> {request.version}"
                session.add(EventRow(at=now, site=site.name, kind="version", detail=detail))

            site.seen = now
            site.version = request.version
            if abs(skew) > _SKEW:
                _log.warning("the clock of %s is off by %.0f s", site.name, skew.total_seconds())

        # Before `owed`: a copy that is back at the site, e.g. from a backup, is owed again in this answer.
        self._versions.holds(site.name, digests_here)
        reply = messages.HeartbeatReply(purge=self._versions.owed(site.name)[:MAX_DIGESTS])
        reply.clock.FromDatetime(now)

        return reply

    @answered
    def AcknowledgePurge(
        self, request: messages.AcknowledgePurgeRequest, context: grpc.ServicerContext
    ) -> messages.AcknowledgePurgeReply:
        """Take down that the site's copies are gone; what it never got, and what it told before, changes nothing."""
        now, pem = self._caller(context)
        digests_gone = digests_of(request.digests)
        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
        self._versions.purged(site.name, digests_gone)
        _log.info("%s says that %d versions are gone", site.name, len(digests_gone))

        return messages.AcknowledgePurgeReply()

    @answered
    def Status(self, request: messages.StatusRequest, context: grpc.ServicerContext) -> messages.StatusReply:  # noqa: ARG002 - as in the .proto
        """How the site stands here, and the state of the campaign that runs."""
        now, pem = self._caller(context)

        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
            running = session.scalar(select(CampaignRow.state).where(CampaignRow.open.is_(True)))
            active = site.state == "active"
            standing = messages.StatusReply.STANDING_ACTIVE if active else messages.StatusReply.STANDING_SUSPENDED

            return messages.StatusReply(
                standing=standing, pending=site.pending, campaign=running or "", version=own_version()
            )

    @answered
    def ExchangeCheckpoint(
        self, request: messages.ExchangeCheckpointRequest, context: grpc.ServicerContext
    ) -> messages.ExchangeCheckpointReply:
        """Co-sign the site's log, and have ours co-signed."""
        desk, site = self._at_desk(context)
        return desk.checkpoint(site, request)

    @answered
    def ExchangeAttestations(
        self, request: messages.ExchangeAttestationsRequest, context: grpc.ServicerContext
    ) -> messages.ExchangeAttestationsReply:
        """Take the site's answers and signatures, and say which are still wanted."""
        desk, site = self._at_desk(context)
        return desk.attestations(site, request)

    @answered
    def ExchangeTokens(
        self, request: messages.ExchangeTokensRequest, context: grpc.ServicerContext
    ) -> messages.ExchangeTokensReply:
        """Keep the site's tokens of linkage and hand on those of others."""
        now, pem = self._caller(context)
        if any(len(token) != TOKEN_BYTES for token in request.tokens):
            invalid(f"a token has not {TOKEN_BYTES} bytes")
        if request.after >= 2**31:
            invalid("after is beyond any position")
        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
            if not (self._linkage or linkage.in_use(session)):
                raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "linkage is off at the coordinator")
            try:
                tokens, upto, others = linkage.exchange(session, site.name, request.tokens, request.after, MAX_DIGESTS)
            except linkage.TooManyTokensError as err:
                _log.error("%s", err)
                raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "too many tokens of linkage") from None

        return messages.ExchangeTokensReply(tokens=tokens, upto=upto, others=others)

    @answered
    def RegisterCounts(
        self, request: messages.RegisterCountsRequest, context: grpc.ServicerContext
    ) -> messages.RegisterCountsReply:
        """Take down how many studies the site trains on; more than a small growth waits for an operator."""
        now, pem = self._caller(context)

        with transaction(self._engine) as session:
            site = admitted(session, pem, now)
            try:
                row = registration.register(session, site, request.statement, self._gate, now)
            except RefusedError as err:
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, str(err)) from None

            # So that the query below sees the new row.
            session.flush()
            in_force = registration.in_force(session).get(site.name, 0)

            return messages.RegisterCountsReply(in_force=in_force, pending=row.state == registration.PENDING)

    @answered
    def RenewCertificate(
        self,
        request: messages.RenewCertificateRequest,  # noqa: ARG002 - as in the .proto
        context: grpc.ServicerContext,
    ) -> messages.RenewCertificateReply:
        """Issue the certificate that follows the one that calls, for the same name and key."""
        now, pem = self._caller(context)
        with transaction(self._engine) as session:
            certificate = renewal.renew(session, admitted(session, pem, now), self._issue, now)

        return messages.RenewCertificateReply(certificate=certificate)

    @answered
    def ListRecipients(
        self, request: messages.ListRecipientsRequest, context: grpc.ServicerContext
    ) -> messages.ListRecipientsReply:
        """Who else received the versions that the site received: the lists that differ from what it has."""
        now, pem = self._caller(context)
        digests_of(item.weights for item in request.known)
        with transaction(self._engine) as session:
            site = admitted(session, pem, now)

        return lists_for(request, self._versions.recipients_for(site.name, MAX_DIGESTS))

    def _at_desk(self, context: grpc.ServicerContext) -> tuple[Desk, SiteRow]:
        now, pem = self._caller(context)
        if self._desk is None:
            raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "this coordinator keeps no log")
        with transaction(self._engine) as session:
            return self._desk, admitted(session, pem, now)

    def _caller(self, context: grpc.ServicerContext) -> tuple[datetime, bytes]:
        """The time and the peer's certificate, unless it calls too often."""
        now = self._clock()
        certificates = context.auth_context().get("x509_pem_cert", ())
        if len(certificates) != 1:
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "no client certificate")
        pem: bytes = certificates[0]
        # By the certificate alone: whose it is costs a query, which is what the limit protects.
        if not self._limit.allows(hashlib.sha256(pem).hexdigest(), now):
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls, slow down")
        return now, pem


def serve(
    coordination: Coordination, address: str, *, certificate: bytes, key: bytes, ca: bytes, workers: int = 8
) -> tuple[grpc.Server, int]:
    """Start the service at `address` (`host:port`, port 0 for a free one); returns the server and its port.

    Only clients with a certificate of the authority `ca` get past the handshake; so it is with the health service too.

    Raises:
        UnavailableError: the address is taken.
    """
    return grpc_server.serve(
        lambda server: add_CoordinationServicer_to_server(coordination, server),
        SERVICE,
        address,
        certificate=certificate,
        key=key,
        ca=ca,
        max_message_bytes=MAX_MESSAGE_BYTES,
        workers=workers,
    )
