"""Tells the coordinator about waiting revocations and deleted model versions, and that the site is alive.

    python -m client.runtime.coordination --dir DIR

In Flower a site cannot start anything, so this process calls the coordinator. It survives a coordinator that does not
answer, and sends only numbers, times and digests.
"""

from __future__ import annotations

import logging
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import grpc
from sqlalchemy.exc import SQLAlchemyError

from client.account.reminders import Reminders
from client.cohort.holdings import HeldVersions
from client.cohort.imports.study_counts import Registration
from client.cohort.recipients import RecipientLists
from client.evidence.attesting import EvidenceService
from client.evidence.event_log import SiteLog
from client.membership.proxy import channel_options, proxy_of
from client.membership.renewal import CertificateRenewal
from client.process import main
from client.revocations.linkage.linking import Linking
from client.revocations.linkage.tokens import read_linkage
from client.revocations.opening import open_ledger
from client.runtime.announcer import CALL_SECONDS, Announcer, reason_of
from client.settings import SiteFolder, heartbeat
from common.errors import FedForgetError, InputError, RefusedError, UnavailableError
from common.files import read_private
from common.installation import own_version
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub

POLL_SECONDS = 1.0
"""Between two checks of the site's folder: the longest delay of an announcement."""

_log = logging.getLogger("fedforget.coordination")


@contextmanager
def connect(folder: SiteFolder) -> Iterator[CoordinationStub]:
    """A connection with the site's client certificate; only the federation's own authority is trusted.

    Raises:
        InputError: settings, a certificate or the key is missing, or others can read the key.
    """
    credentials = grpc.ssl_channel_credentials(
        _read(folder.ca_certificate), read_private(folder.tls_key), _read(folder.certificate)
    )
    settings = folder.settings()
    # Without a pool of its own, gRPC would give a new channel the connection with the old certificate.
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    options += channel_options(proxy_of(settings), settings.coordination)
    with grpc.secure_channel(settings.coordination, credentials, options) as channel:
        yield CoordinationStub(channel)


def ask_status(folder: SiteFolder) -> messages.StatusReply:
    """The coordinator's view of this site.

    Raises:
        InputError: see `connect`.
        RefusedError: the site is not, or no longer, approved.
        UnavailableError: the coordinator does not answer.
    """
    try:
        with connect(folder) as stub:
            return stub.Status(messages.StatusRequest(), timeout=CALL_SECONDS)
    except grpc.RpcError as err:
        if err.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise RefusedError(reason_of(err)) from None
        raise UnavailableError(reason_of(err)) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise InputError(
            f"cannot read: {err.strerror}", where=str(path), remedy="join the federation first: fedforget-site join"
        ) from None


def _stop(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - as signal handlers are called
    _log.info("stopped")
    sys.exit(0)


def run(folder: SiteFolder) -> NoReturn:
    """Announce until SIGTERM.

    Raises:
        InputError: the settings cannot be read, or the database is damaged.
        UnavailableError: the database does not answer.
    """
    settings = folder.settings()

    def clock() -> datetime:
        return datetime.now(UTC)

    with open_ledger(folder) as ledger:
        announcer = Announcer(
            connect=lambda: connect(folder),
            waiting=ledger.waiting,
            holdings=HeldVersions(folder.root / "models", ledger.engine, clock),
            every=settings.heartbeat_seconds,
            clock=clock,
            rng=random.Random(),  # noqa: S311 - spreads retries, keeps no secret
            version=own_version(),
            max_skew=timedelta(seconds=settings.bounds.clock_skew_seconds),
            evidence=EvidenceService(lambda: nullcontext(SiteLog(folder, ledger.engine, clock))),
            # Read anew at each exchange, as keys are rotated while this runs.
            links=Linking(ledger, lambda: read_linkage(folder)),
            counts=Registration(folder),
            renewal=CertificateRenewal(folder, clock),
            recipients=RecipientLists(ledger.engine, clock),
            on_answer=heartbeat(folder, settings).touch,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        _log.info("announcing to %s", settings.coordination)
        reminders = Reminders(ledger)

        try:
            while True:
                announcer.step(time.monotonic())
                with suppress(
                    FedForgetError, SQLAlchemyError
                ):  # the announcer has logged what is wrong with the ledger
                    reminders.step(clock())
                time.sleep(POLL_SECONDS)
        finally:
            announcer.close()


if __name__ == "__main__":
    main("coordination", "Announce waiting revocations.", run)
