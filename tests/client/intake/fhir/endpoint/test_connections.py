"""The endpoint against connections that do nothing, or too much, before they have signed in."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from client.intake.fhir.endpoint import connections


@pytest.fixture(scope="module")
def hospital(start_hospital: Callable[..., Any]) -> Any:
    return start_hospital("connections_per_address = 8")


@contextlib.contextmanager
def dialled(hospital: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", hospital.port), timeout=40) as connection:
        yield connection


def is_hung_up(connection: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        while connection.recv(2**16):
            pass

    return True


def is_hung_up_at_once(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def answered(connection: socket.socket) -> bytes:
    content = b""
    with contextlib.suppress(OSError):
        while block := connection.recv(2**16):
            content += block

    return content


def test_who_sends_nothing_or_half_a_head_is_hung_up_on(hospital: Any) -> None:
    begun = time.monotonic()
    with dialled(hospital) as idle, dialled(hospital) as half, dialled(hospital) as slow:
        half.sendall(b"POST /fhir/Consent HTTP/1.1\r\nHost: x\r\n")
        for _ in range(5):
            slow.sendall(b"X")
            time.sleep(0.05)

        assert is_hung_up(idle)
        assert is_hung_up(half)
        assert is_hung_up(slow)

    assert connections.HEAD_SECONDS - 2 < time.monotonic() - begun < connections.HEAD_SECONDS + 15


def test_a_head_without_end_and_a_body_of_a_stranger_are_not_read(hospital: Any) -> None:
    with dialled(hospital) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 2**14)

        assert is_hung_up(connection)

    head = b"POST /fhir/Consent HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with dialled(hospital) as connection:
        connection.sendall(head)
        assert b" 401 " in answered(connection)

    sent = 0
    with dialled(hospital) as connection:
        connection.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"4000\r\n" + b"x" * 2**14 + b"\r\n")
                sent += 2**14

    assert sent < 1000 * 2**14


def test_one_address_holds_its_share_of_connections_and_is_served_again_when_it_lets_go(hospital: Any) -> None:
    with contextlib.ExitStack() as held:
        opened = [held.enter_context(dialled(hospital)) for _ in range(24)]
        for connection in opened[16:]:  # those before are all that it may hold, and as many again
            connection.settimeout(connections.HEAD_SECONDS / 2)
            assert is_hung_up_at_once(connection)

    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"http://127.0.0.1:{hospital.port}/fhir/metadata", trust_env=False)
            assert answer.status_code == 401
            return

        assert time.monotonic() < until
        time.sleep(0.1)
