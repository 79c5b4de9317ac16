import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import InputError, UnavailableError
from common.platform.keys.certificates import certificate_pem, new_authority
from common.protocol.bundle import bundle_of
from server.runtime.control import Control


@pytest.fixture(scope="module")
def ca() -> bytes:

    return certificate_pem(new_authority(ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)))


def test_a_superlink_that_is_away_is_unavailable_for_every_call(ca: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    control = Control(f"127.0.0.1:{port}", ca)
    calls: dict[str, Callable[[], object]] = {
        "start": lambda: control.start(bundle_of("1"), {}, None),
        "status": lambda: control.status(1),
        "stop": lambda: control.stop(1),
        "logs": lambda: list(control.logs(1)),
        "nodes": control.nodes,
        "unregister": lambda: control.unregister_node(1),
    }
    for call in calls.values():
        with pytest.raises(UnavailableError, match="does not answer"):
            call()

    control.close()


def test_somebody_else_on_the_port_gets_nothing_readable(ca: bytes) -> None:
    """Whoever takes the port without a certificate of the federation sees a TLS handshake and no request."""
    seen = b""

    def listen(server: socket.socket) -> None:
        nonlocal seen
        connection, _ = server.accept()
        with connection:
            seen = connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=listen, args=(server,))
        thread.start()
        control = Control(f"127.0.0.1:{server.getsockname()[1]}", ca)
        with pytest.raises(UnavailableError):
            control.nodes()
        thread.join()

    assert seen[:1] == b"\x16", "a TLS handshake record (RFC 8446, section 5.1)"
    assert b"control" not in seen


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"ssh-rsa nonsense",
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    ],
    ids=["empty", "nonsense", "another curve"],
)
def test_only_a_key_that_supernodes_can_sign_with_is_registered(ca: bytes, key: bytes) -> None:
    control = Control("127.0.0.1:1", ca)
    with pytest.raises(InputError, match="not a node key"):
        control.register_node(key, "north")
    control.close()
