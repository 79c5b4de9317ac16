"""The site's part in evidence: co-signs the coordinator's log, and attestations that agree with its own records."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import grpc
from sqlalchemy.exc import SQLAlchemyError

from client.evidence.attestations import keep_attestation
from client.evidence.event_log import SiteLog
from common.errors import EvidenceError, FedForgetError
from common.evidence import dsse, statements
from common.evidence.canonical import canonical
from common.evidence.keys import PinnedKeys
from common.platform.event_log.store import OWNER, SERVER_ORIGIN, Record, only, signed_by
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.bounds import MAX_MESSAGE_BYTES, MAX_REVOCATIONS
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub

CALL_SECONDS = 10.0
_TURNS = 3
"""Largest number of calls for attestations: requests, answers, signatures."""
_WEIGHTS = "weights"
_SIGNATURE = 1_024
"""Bytes that a signature or the fields of an answer add, at most."""

_log = logging.getLogger("fedforget.evidence")


@dataclass(frozen=True, slots=True)
class EvidenceService:
    """Exchanges evidence with the coordinator; `open` gives the site's log for the duration of a call."""

    open: Callable[[], AbstractContextManager[SiteLog]]

    def record(self) -> None:
        """Bring the site's log up to date. A failure is only logged, so that it delays nothing else."""
        try:
            with self.open() as site:
                site.follow()
        except FedForgetError as err:
            _log.error("the log is not kept: %s", err)
        except SQLAlchemyError as err:
            _log.error("the log is not kept: the database failed (%s)", type(err).__name__)

    def exchange(self, stub: CoordinationStub) -> None:
        """Show and co-sign checkpoints, then answer for attestations and sign them.

        Invalid evidence is logged and does not stop the rest.

        Raises:
            grpc.RpcError: the coordinator does not answer; one without a log is skipped.
        """
        try:
            with self.open() as site:
                # In this order: a checkpoint covers what is logged, and an attestation refers to a checkpoint.
                site.follow()
                exchange_checkpoints(site, stub)
                exchange_attestations(site, stub)
        except FedForgetError as err:
            _log.error("no evidence is exchanged: %s", err)
        except grpc.RpcError as err:
            if not isinstance(err, grpc.Call):
                raise
            if err.code() is grpc.StatusCode.FAILED_PRECONDITION:
                _log.error("the coordinator refuses: %s", err.details())
            elif err.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise


def exchange_checkpoints(site: SiteLog, stub: CoordinationStub) -> None:
    """Get the site's newest checkpoint co-signed, and co-sign the coordinator's if its log has only grown.

    Raises:
        EvidenceError: the coordinator's log was cut short or forked; the site's own log records it.
    """
    key = site.key()
    coordinator = site.coordinator()
    log = site.log
    cosignature = b""
    since = 0

    # The last call sends the signature; one more is needed if the coordinator knew a different size than expected.
    for _ in range(_TURNS):
        request = messages.ExchangeCheckpointRequest(since=since, cosigned=cosignature)
        with site.session() as session:
            peer = log.peer(session, SERVER_ORIGIN)
            request.seen = peer.checkpoint.size if peer else 0
            newest = log.newest(session)

            if newest is not None and not signed_by(newest, coordinator):
                request.checkpoint = dsse.encode_envelope(only(newest, key.public))
                # A coordinator that knows more leaves than there are gets no proof: this log was cut short.
                if since <= len(log.leaves(session)):
                    request.proof.extend(log.grown_since(session, since))

        reply = stub.ExchangeCheckpoint(request, timeout=CALL_SECONDS)
        before = since
        since = reply.known
        cosignature = _take(site, reply)
        if not cosignature and (not request.checkpoint or reply.cosigned or since == before):
            return


def _take(site: SiteLog, reply: messages.ExchangeCheckpointReply) -> bytes:
    """Keep the coordinator's signature and return the site's; empty if the coordinator already has it."""
    key = site.key()
    coordinator = site.coordinator()
    log = site.log
    with site.session() as session:
        if reply.cosigned:
            log.take_signature(session, dsse.decode_envelope(reply.cosigned), key.public, coordinator)

    if not reply.checkpoint:
        return b""
    envelope = dsse.decode_envelope(reply.checkpoint)
    checkpoint = only(envelope, coordinator)
    has_ours = signed_by(envelope, key.public)

    try:
        with site.session() as session:
            peer = log.peer(session, SERVER_ORIGIN)
            # Nothing new, and signed before.
            if peer and peer.envelope.payload == checkpoint.payload and not peer.trouble and has_ours:
                return b""
            signed_checkpoint = log.cosign(session, SERVER_ORIGIN, checkpoint, coordinator, key, tuple(reply.proof))
    except EvidenceError as err:
        # In a transaction of its own: the one above was rolled back.
        _refuse(site, str(err))
        raise

    return dsse.encode_envelope(signed_checkpoint)


def _refuse(site: SiteLog, reason: str) -> None:
    with site.session() as session:
        if site.log.distrust(session, SERVER_ORIGIN, reason):
            document = canonical({"origin": SERVER_ORIGIN, "reason": reason})
            source = f"refused:{site.log.random(16).hex()}"
            site.log.append(session, [Record(source, "log-refused", document)], site.key())


def exchange_attestations(site: SiteLog, stub: CoordinationStub) -> None:
    """Report which revocations the versions adopted here answer, and sign the attestations that agree.

    Raises:
        EvidenceError: an attestation disagrees; the others are signed first.
    """
    request = messages.ExchangeAttestationsRequest()
    refusal = ""

    for _ in range(_TURNS):
        reply = stub.ExchangeAttestations(request, timeout=CALL_SECONDS)
        request = messages.ExchangeAttestationsRequest()

        with site.session() as session:
            for campaign in reply.wanted:
                end = site.ended(session, campaign)
                if end is None:
                    continue
                digests = [bytes.fromhex(digest) for digest in _texts(end["revocations"])]
                if len(digests) > MAX_REVOCATIONS:
                    refusal = f"campaign {campaign} answers {len(digests)} revocations, more than {MAX_REVOCATIONS}"
                elif _fits(request, 40 * len(digests)):
                    request.answers.add(campaign=campaign, revocations=digests)

        for data in reply.waiting:
            if not _fits(request, len(data)):
                if not _fits(messages.ExchangeAttestationsRequest(), len(data)):
                    refusal = f"an attestation of {len(data)} bytes does not fit into a message"
                # Otherwise it waits for the next call.
                continue
            try:
                request.signed.append(sign(site, data))
            except EvidenceError as err:
                refusal = f"an attestation is not signed: {err}"

        if not request.answers and not request.signed:
            break

    if refusal:
        raise EvidenceError(refusal)


def sign(site: SiteLog, data: bytes) -> bytes:
    """Add the site's signature to an attestation; the site's log keeps its content.

    Raises:
        EvidenceError: it disagrees with what this site did, adopted, reported or answers.
    """
    envelope = dsse.decode_envelope(data)
    key = site.key()
    dsse.verify(envelope, statements.PAYLOAD_TYPE, PinnedKeys.of([(OWNER, site.coordinator())]), {OWNER: 1})
    files, unlearning = statements.read_unlearning(envelope.body)
    if not unlearning.campaign.isdecimal():
        raise EvidenceError("it names no campaign")
    campaign = int(unlearning.campaign)
    with site.session() as session:
        end = site.ended(session, campaign)
        if end is None:
            raise EvidenceError(f"campaign {campaign} did not end here in a version that was adopted")
        if end["weights"] not in {file.sha256 for file in files if file.name == _WEIGHTS}:
            raise EvidenceError(f"its weights differ from those adopted here in campaign {campaign}")
        # It may answer revocations of other hospitals as well, but must not leave out one of this.
        if not set(_texts(end["revocations"])) <= set(unlearning.revocations):
            raise EvidenceError("it leaves out revocations of this site")
        if (end["how"] == "retrained") != (unlearning.method.name in {"retrained", "exact"}):
            raise EvidenceError("it disagrees about how patients were forgotten")
        mine = [figures.sha256 for figures in unlearning.figures if figures.site == site.name]
        if not all(site.reported(session, campaign, digest) for digest in mine):
            raise EvidenceError("it names figures that this site did not report")
        for replay in unlearning.replays:
            if replay.site == site.name:
                # Loads torch, which the announcing process needs only here.
                from client.evidence.replayable import check_replay, kept  # noqa: PLC0415

                check_replay(kept(site.folder, campaign), replay)

        # On record before the signature leaves the site.
        site.attested(session, envelope.body)

    envelope_bytes = dsse.encode_envelope(dsse.add_signature(envelope, key))
    keep_attestation(site.folder, campaign, envelope_bytes)

    return envelope_bytes


def _fits(request: messages.ExchangeAttestationsRequest, more: int) -> bool:
    return int(request.ByteSize()) + more + 2 * _SIGNATURE < MAX_MESSAGE_BYTES


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
