"""The process of the consent service, which `fedforget-site up` runs if it is enabled. It needs no torch."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import ssl
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from client.intake.enumerations import ENUMERATION_FILE
from client.intake.grpc.authority import WITHDRAWN_FILE, withdrawn
from client.intake.grpc.gate import SERVICE, STREAMS, Gate
from client.intake.grpc.lookups import Lookups
from client.intake.grpc.requests import MOST_BYTES
from client.intake.grpc.revoking import Revoker
from client.intake.grpc.service import Consents
from client.intake.grpc_api.consent_pb2_grpc import add_ConsentServiceServicer_to_server
from client.intake.permission import permissions_of
from client.revocations.opening import open_ledger
from client.revocations.vault import Vault
from client.settings import SiteFolder
from client.settings_sections import ConsentServiceConfig
from common.errors import InputError, UnavailableError
from common.files import read_private
from common.platform.listening import grpc_server
from common.platform.listening.front_door import FrontDoor
from common.platform.listening.listener import bound
from common.platform.listening.rate_limit import RateLimit

_FIELDS_BYTES = 2**14
_WORKERS = 8
_LOOK_SECONDS = 0.5
_LONGEST_SOCKET = 100
_GRACE_SECONDS = 2.0

_log = logging.getLogger("fedforget.consent")


class WithdrawnFile:
    """The withdrawn certificates on disk; read again only when the file has changed."""

    def __init__(self, folder: SiteFolder) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._found = frozenset[str]()

    def now(self) -> frozenset[str]:
        """Read anew if need be; raises as `withdrawn`."""
        try:
            status = (self._folder.consent_service / WITHDRAWN_FILE).stat()
        # No file means that nothing was withdrawn; a file that is gone gives nothing back.
        except FileNotFoundError:
            return self._found

        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._seen:
            self._found = withdrawn(self._folder)
            self._seen = stamp

        return self._found


def run(folder: SiteFolder) -> None:
    """Serve until SIGTERM.

    Raises:
        InputError: settings, a certificate, a key, the secret of the pseudonyms or the database.
        UnavailableError: the port is taken, or the database does not answer.
    """
    config = folder.settings().consent_service
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with open_ledger(folder) as ledger:
        limit = RateLimit(config.burst, config.calls_per_second)
        gate = Gate(config.roles, WithdrawnFile(folder).now, limit, ledger.clock)
        vault = Vault(folder.vault, secrets.token_bytes)
        lookups = Lookups(
            config.unknown_burst, config.unknown_per_hour, ledger.clock, folder.consent_service / ENUMERATION_FILE
        )
        permissions = permissions_of(ledger)
        revoker = Revoker(ledger, permissions, vault, config.commit_together)
        consents = Consents(ledger, permissions, revoker, gate, stopping, lookups)
        server, port = start(folder, config, consents)
        _log.info("listening at %s:%d", config.host, port)
        # A signal just before an unlimited wait would only be seen after it.
        while not stopping.wait(_LOOK_SECONDS):
            pass
        server.stop(_GRACE_SECONDS)


@dataclass(frozen=True, slots=True)
class Served:
    """The running service and its front door."""

    server: grpc.Server
    door: FrontDoor

    def stop(self, grace: float) -> None:
        """Stop; calls in progress get some seconds to finish."""
        self.server.stop(grace).wait()
        self.door.close()


def start(folder: SiteFolder, config: ConsentServiceConfig, consents: Consents) -> tuple[Served, int]:
    """Start serving; returns the running service and its port.

    Raises:
        InputError: a certificate or a key is missing, damaged or does not fit, or others can read the key.
        UnavailableError: the port is taken.
    """
    certificate, key, ca = (folder.root / name for name in (config.certificate, config.key, config.client_ca))
    private = read_private(key)
    _check_pair(certificate, key, ca)

    def register(server: grpc.Server) -> None:
        add_ConsentServiceServicer_to_server(consents, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    # gRPC cannot limit connections per address: it listens on a private socket behind the front door.
    inside = _inside(folder)
    port_error = UnavailableError(f"cannot listen at {config.host}:{config.port}: the port may be in use")

    try:
        listener = bound(config.host, config.port, config.connections_per_address)
    except OSError:
        raise port_error from None

    with ExitStack() as undo:
        undo.enter_context(listener)
        server, _ = grpc_server.serve(
            register,
            SERVICE,
            f"unix:{inside}",
            certificate=certificate.read_bytes(),
            key=private,
            ca=ca.read_bytes(),
            max_message_bytes=MOST_BYTES + _FIELDS_BYTES,
            # Each open stream occupies a thread, and calls need some beside them.
            workers=_WORKERS + STREAMS,
            interceptors=[consents.gate],
        )
        undo.callback(server.stop, None)

        try:
            # Started last: a client that can connect must be served.
            listener.listen()
        except OSError:
            raise port_error from None

        port = listener.getsockname()[1]
        server_process = Served(server, FrontDoor(listener, inside))
        undo.pop_all()

    return server_process, port


def _inside(folder: SiteFolder) -> str:
    """Where gRPC listens. The path of a socket has at most 107 bytes, which a deep folder can exceed."""
    path = folder.consent_service.resolve() / "inside.sock"
    if path.parent.is_dir() and len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return str(path)
    return f"{tempfile.mkdtemp(prefix='fedforget-')}/inside.sock"


def _check_pair(certificate: Path, key: Path, ca: Path) -> None:
    """What gRPC would only log."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise InputError(
            "certificate, key and authority do not match",
            where=str(certificate.parent),
            remedy="fedforget-site consent-client init",
        ) from None
