"""Decides what the coordinator needs to be told, and tells it; see `client.runtime.coordination`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import grpc
from sqlalchemy.exc import SQLAlchemyError

from client.revocations.revocation import Waiting
from common.errors import FedForgetError
from common.platform.processes.supervisor import Backoff
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub

CALL_SECONDS = 10.0
_BACKOFF = Backoff(first=1.0, most=60.0)

_log = logging.getLogger("fedforget.coordination")


class Holdings(Protocol):
    """The model versions on this site's disk, by the digest of their weights."""

    def held(self) -> Collection[str]:
        """Digests of the versions on this disk."""

    def retire(self, digests: Collection[str]) -> Collection[str]:
        """Permanently delete `digests`; returns those of which no copy is left."""

    def acknowledged(self, digests: Collection[str]) -> None:
        """The coordinator has recorded that these are deleted."""


class EvidenceExchange(Protocol):
    """What the announcer needs of `client.evidence.attesting.EvidenceService`."""

    def record(self) -> None:
        """Bring the log up to date with the site's records."""

    def exchange(self, stub: CoordinationStub) -> None:
        """Co-sign each other's logs, and attestations."""


class StudyCounts(Protocol):
    """What the announcer needs of `client.cohort.imports.study_counts.Registration`."""

    def register(self, stub: CoordinationStub) -> messages.RegisterCountsReply | None:
        """Register how many studies are trained on here."""


class Renewal(Protocol):
    """What the announcer needs of `client.membership.renewal.CertificateRenewal`."""

    def step(self, stub: CoordinationStub) -> bool:
        """Renew the site's certificate if it is due; whether there is a new one."""


class Recipients(Protocol):
    """What the announcer needs of `client.cohort.recipients.RecipientLists`."""

    def step(self, stub: CoordinationStub) -> None:
        """Ask who else received the model versions that are or were here, if it is due."""


class LinkageExchange(Protocol):
    """What the announcer needs of `client.revocations.linkage.linking.Linking`."""

    def exchange(self, stub: CoordinationStub) -> None:
        """Exchange tokens with other hospitals through the coordinator."""


@dataclass(slots=True)
class Announcer:
    """Decides at each `step` what the coordinator needs to be told, and sends it.

    Args:
        connect: opens a connection with the files in the site's folder, so that a new certificate takes effect.
        waiting: gives the number of waiting revocations and the first due date.
        every: seconds between two heartbeats.
        clock: the site's clock.
        max_skew: largest clock difference that is not logged.
    """

    connect: Callable[[], AbstractContextManager[CoordinationStub]]
    waiting: Callable[[], Waiting]
    holdings: Holdings
    every: float
    clock: Callable[[], datetime]
    rng: random.Random
    version: str
    max_skew: timedelta = timedelta(minutes=5)
    evidence: EvidenceExchange | None = None
    links: LinkageExchange | None = None
    counts: StudyCounts | None = None
    renewal: Renewal | None = None
    recipients: Recipients | None = None
    on_answer: Callable[[], None] = lambda: None
    """Called when the coordinator has answered a heartbeat."""
    _open: ExitStack = field(init=False, default_factory=ExitStack)
    _stub: CoordinationStub | None = field(init=False, default=None)
    _last_announcement: Waiting | None = field(init=False, default=None)
    _counts_wait: bool = field(init=False, default=False)
    _unreadable: bool = field(init=False, default=False)
    _failures: int = field(init=False, default=0)
    _next_beat: float = field(init=False, default=0.0)
    _next_try: float = field(init=False, default=0.0)

    def step(self, now: float) -> None:
        """Send what is due at `now` (seconds of a monotonic clock). A failure is logged and retried."""
        waiting = self._look()
        heartbeat_due = now >= self._next_beat
        # A change is announced at once; otherwise the next heartbeat is soon enough.
        if now < self._next_try or not (heartbeat_due or (waiting is not None and waiting != self._last_announcement)):
            return
        try:
            if self.evidence is not None:
                # Before the connection: the log must not wait for a coordinator that is away.
                self.evidence.record()
            if self._stub is None:
                self._stub = self._open.enter_context(self.connect())
            # First of all calls: a revocation waits behind nothing else.
            if waiting is not None:
                self._announce(self._stub, waiting)
            if heartbeat_due:
                self._register(self._stub)
                self._heartbeat(self._stub)
                self._next_beat = now + self.every
                # Only after an answer: the doctor shows by it how long the coordinator has been silent.
                self.on_answer()
                if self.recipients is not None:
                    self.recipients.step(self._stub)
                if self.evidence is not None:
                    self.evidence.exchange(self._stub)

            # At every step that calls: another hospital waits for the tokens of a patient that both have.
            if self.links is not None:
                self.links.exchange(self._stub)
            self._failures = 0
            if heartbeat_due and self.renewal is not None and self.renewal.step(self._stub):
                self.close()
                self._next_beat = now  # the next step uses the new certificate
        except (grpc.RpcError, FedForgetError, SQLAlchemyError) as err:
            # All that failed is done again from the start, with a connection of its own.
            self._failures += 1
            delay = _BACKOFF.delay(self._failures, self.rng)
            self._next_try = now + delay
            _log.warning("%s; next try in %.0f s", reason_of(err), delay)
            self.close()

    def close(self) -> None:
        """Close the connection. The next step connects and announces again."""
        self._open.close()
        self._stub = self._last_announcement = None

    def _look(self) -> Waiting | None:
        try:
            waiting = self.waiting()
        except (FedForgetError, SQLAlchemyError) as err:
            if not self._unreadable:
                _log.error("cannot read the revocations, nothing is announced: %s", reason_of(err))
            self._unreadable = True
            return None

        self._unreadable = False
        return waiting

    def _announce(self, stub: CoordinationStub, waiting: Waiting) -> None:
        # Also when nothing changed: a coordinator restored from a backup may have forgotten the last announcement.
        request = messages.AnnounceRequest(pending=waiting.number)
        if waiting.first_due is not None:
            request.first_due.FromDatetime(waiting.first_due)
        stub.Announce(request, timeout=CALL_SECONDS)
        if waiting != self._last_announcement:
            _log.info("announced: %d waiting", waiting.number)
        self._last_announcement = waiting

    def _register(self, stub: CoordinationStub) -> None:
        """Register the number of studies. A failure does not stop the other calls."""
        if self.counts is None:
            return
        try:
            reply = self.counts.register(stub)
        except FedForgetError as err:
            _log.error("the number of studies is not registered: %s", err)
            return
        except grpc.RpcError as err:
            # These refuse the number and not the site: everything else goes on.
            refusals = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED}
            if not isinstance(err, grpc.Call) or err.code() not in refusals:
                raise
            _log.error("the coordinator refuses the registered number of studies: %s", err.details())
            return

        if reply is not None and reply.pending and not self._counts_wait:
            _log.warning("the coordinator must approve the new number of studies; until then %d count", reply.in_force)

        self._counts_wait = reply is not None and reply.pending

    def _heartbeat(self, stub: CoordinationStub) -> None:
        sent_at = self.clock()
        request = messages.HeartbeatRequest(version=self.version, held=sorted(self.holdings.held()))
        request.clock.FromDatetime(sent_at)
        reply = stub.Heartbeat(request, timeout=CALL_SECONDS)
        # Halfway between request and answer the coordinator has read its clock, as far as can be told.
        between = sent_at + (self.clock() - sent_at) / 2
        skew = between - reply.clock.ToDatetime(tzinfo=UTC)
        if abs(skew) > self.max_skew:
            _log.warning("this clock differs from the coordinator's by %.0f s", skew.total_seconds())
        if reply.purge:
            self._purge(stub, frozenset(reply.purge))

    def _purge(self, stub: CoordinationStub, asked: frozenset[str]) -> None:
        deleted_digests = sorted(asked & frozenset(self.holdings.retire(asked)))
        if len(deleted_digests) < len(asked):
            _log.warning(
                "%d of %d versions to be deleted are still here", len(asked) - len(deleted_digests), len(asked)
            )
        if deleted_digests:
            # Told first, then noted as told: a call that fails is repeated.
            stub.AcknowledgePurge(messages.AcknowledgePurgeRequest(digests=deleted_digests), timeout=CALL_SECONDS)
            self.holdings.acknowledged(deleted_digests)
            _log.info("reported that %d versions are deleted", len(deleted_digests))


def reason_of(err: Exception) -> str:
    """A reason without the text of foreign exceptions, which may quote anything."""
    if isinstance(err, grpc.Call):
        if err.code() is grpc.StatusCode.PERMISSION_DENIED:
            return "the coordinator does not accept this site's certificate: have it approved, or rotate"
        return f"unexpected answer of the coordination service ({err.code().name})"

    return str(err) if isinstance(err, FedForgetError) else f"the site's database failed ({type(err).__name__})"
