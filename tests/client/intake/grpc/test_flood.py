"""Connections that never sign in: they end by themselves, and leave room for those of other addresses."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_api.consent_pb2_grpc import ConsentServiceStub
from simulations.bench.hospital.consent_hospital import ConsentHospital


def first_byte(connection: socket.socket) -> bytes | None:
    """None where it stays open."""
    try:
        return connection.recv(1)
    except TimeoutError:
        return None
    except OSError:
        return b""


def test_an_address_holds_its_share_and_silent_connections_end(
    new_hospital: Callable[..., ConsentHospital],
) -> None:
    one = new_hospital("connections_per_address = 6")
    one.start()

    with ExitStack() as held:
        dialled = [held.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=3)) for _ in range(20)]
        assert all(first_byte(connection) == b"" for connection in dialled[12:])
        begun = time.monotonic()

        for connection in dialled[:6]:
            connection.settimeout(40)
            while connection.recv(2**12):
                pass

        assert time.monotonic() - begun < 35

    with one.client("ehr-1") as ehr:
        assert ehr.check(f"{one.prefix}-1").permission == messages.CheckPermissionReply.PERMISSION_PERMITTED


def test_another_address_is_served_while_one_floods(new_hospital: Callable[..., ConsentHospital]) -> None:
    one = new_hospital("connections_per_address = 6")
    one.start()

    with ExitStack() as held:
        for _ in range(30):
            source = socket.create_connection(("127.0.0.1", one.port), source_address=("127.0.0.2", 0))
            held.enter_context(source)

        with one.channel("ehr-1") as channel:
            asked = messages.CheckPermissionRequest(patient=f"{one.prefix}-1")
            assert ConsentServiceStub(channel).CheckPermission(asked, timeout=10).permission
