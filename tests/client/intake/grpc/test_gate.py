"""The gate in this process: a refused call leaves nothing open, and a certificate counts only within its time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from client.intake.grpc.gate import Gate
from client.intake.grpc.process import start
from client.intake.grpc.revoking import Revoker
from client.intake.grpc.service import Consents
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_api.consent_pb2_grpc import ConsentServiceStub
from client.intake.permission import permissions_of
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.revocations.vault import Vault
from common.platform.listening.rate_limit import RateLimit
from simulations.bench.hospital.consent_hospital import ConsentHospital


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Any]:
    """A consent service in this process, and its clock."""
    hospital = ConsentHospital(tmp_path / "north", prefix="p", patients=3)
    time = SimpleNamespace(now=datetime.now(UTC))
    config = hospital.folder.settings().consent_service
    stopping = threading.Event()

    with open_ledger(hospital.folder) as ledger:
        gate = Gate(config.roles, frozenset, RateLimit(1000, 1000), lambda: time.now)
        vault = Vault(hospital.folder.vault, lambda size: b"s" * size)
        permissions = permissions_of(ledger)
        revoker = Revoker(ledger, permissions, vault)
        server, _ = start(hospital.folder, config, Consents(ledger, permissions, revoker, gate, stopping=stopping))
        yield SimpleNamespace(hospital=hospital, time=time)
        stopping.set()
        server.stop(0)


@contextmanager
def without_collector() -> Iterator[None]:
    """What is only freed by the garbage collector stays."""
    gc.disable()

    try:
        yield
    finally:
        gc.enable()


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code()


def test_fifty_refused_calls_leave_the_connection_as_it_was(served: Any) -> None:
    asked = messages.CheckPermissionRequest(patient="p-1")
    with served.hospital.channel("ehr-1") as channel, without_collector():
        stub = ConsentServiceStub(channel)
        for number in range(50):
            if number % 2:
                code = code_of(lambda: stub.ListRevocations(messages.ListRevocationsRequest(), timeout=5))
            else:
                code = code_of(lambda: list(stub.WatchRevocation(messages.WatchRevocationRequest(), timeout=5)))

            assert code is grpc.StatusCode.PERMISSION_DENIED

        assert stub.CheckPermission(asked, timeout=5).permission


def test_fifty_refused_calls_beside_an_open_watch_do_not_end_it(served: Any) -> None:
    with served.hospital.channel("desk") as channel, without_collector():
        stub = ConsentServiceStub(channel)
        first = messages.RevokeConsentRequest(patient="p-1", source_id="a")
        stub.RevokeConsent(first, timeout=5)
        watch = stub.WatchRevocation(messages.WatchRevocationRequest(), timeout=60)
        next(watch)
        bad = messages.GetRevocationRequest(receipt="not a receipt")
        for _ in range(50):
            assert code_of(lambda: stub.GetRevocation(bad, timeout=5)) is grpc.StatusCode.INVALID_ARGUMENT
        receipt = stub.RevokeConsent(messages.RevokeConsentRequest(patient="p-2", source_id="b"), timeout=5)
        assert receipt.created
        assert any(change.receipt == receipt.revocation.receipt for change in (next(watch) for _ in range(3)))
        assert isinstance(watch, grpc.Call)
        watch.cancel()


def test_a_certificate_that_expires_on_an_open_connection_opens_nothing_more(served: Any) -> None:
    asked = messages.CheckPermissionRequest(patient="p-1")
    with served.hospital.channel("desk") as channel:
        stub = ConsentServiceStub(channel)
        stub.RevokeConsent(messages.RevokeConsentRequest(patient="p-1", source_id="a"), timeout=5)
        watch = stub.WatchRevocation(messages.WatchRevocationRequest(), timeout=60)
        next(watch), next(watch)
        served.time.now += timedelta(days=400)
        assert code_of(lambda: stub.CheckPermission(asked, timeout=5)) is grpc.StatusCode.UNAUTHENTICATED
        with open_ledger(served.hospital.folder) as ledger:
            ledger.record(Request(Source("cli", "form-9"), "receipt-9", served.time.now), ["p-2"])
        assert code_of(lambda: next(watch)) is grpc.StatusCode.UNAUTHENTICATED
