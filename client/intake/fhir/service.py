"""The process that `fedforget-site up` keeps alive where `[fhir]` is enabled: the endpoint, and a thread that pulls."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn

from client.intake.fhir.endpoint.app import make_app
from client.intake.fhir.endpoint.connections import HEAD_BYTES, Loop, Protocol
from client.intake.fhir.endpoint.telling import Telling
from client.intake.fhir.intake import Intake
from client.intake.fhir.patients import PatientMapFile
from client.intake.fhir.pull.links import check_address, check_alias
from client.intake.fhir.pull.puller import Puller
from client.intake.fhir.pull.smart import SignIn
from client.intake.fhir.question import policy_of, purpose_of
from client.intake.fhir.server import FhirServer, http_client, token_url
from client.intake.fhir.store.consents import ConsentStore
from client.membership.proxy import proxy_of
from client.revocations.ledger_queries import now_utc
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from client.settings_sections import FhirConfig
from common.errors import ConfigError, UnavailableError
from common.files import read_private
from common.platform.keys.private_keys import load_ec_key, read_passphrase
from common.platform.listening.listener import TOTAL, bound

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LEAST_TOKEN_BYTES = 32

_log = logging.getLogger("fedforget.fhir")


@contextmanager
def open_intake(folder: SiteFolder) -> Iterator[Intake]:
    """Everything that takes Consents at a site.

    Raises:
        InputError: settings, the secret of the pseudonyms or the database.
    """
    settings = folder.settings()
    config = settings.fhir
    policy = policy_of(config)
    if not folder.fhir_jwks.exists():
        raise ConfigError("not set up yet", where=str(folder.root), remedy="fedforget-site fhir init")
    with open_ledger(folder, now_utc) as ledger:
        yield Intake(
            ledger=ledger,
            store=ConsentStore(ledger.engine, ledger.pseudonyms),
            patients=PatientMapFile(_file(folder, config.patient_map)).now,
            policy=policy,
            purpose=purpose_of(config),
            clock=now_utc,
            base=check_address(config.server, "fhir.server") if config.server else "",
            aliases=tuple(check_alias(url, "fhir.server_aliases") for url in config.server_aliases),
        )


@contextmanager
def open_server(folder: SiteFolder, pause: Callable[[float], object] = time.sleep) -> Iterator[FhirServer]:
    """The hospital's FHIR server, signed in where that is set; `pause` sleeps between tries.

    Raises:
        InputError: no server is set, or an address, certificate or key is wrong.
        UnavailableError: it was to say where to sign in, and does not answer.
        WireError: it does not say.
    """
    settings = folder.settings()
    config = settings.fhir
    if not config.server:
        raise ConfigError("no server is set", where=f"{folder.settings_file} [fhir]", remedy='set server = "https://…"')
    base = check_address(config.server, "fhir.server")
    with http_client(_file(folder, config.server_ca), proxy=proxy_of(settings)) as http:
        sign_in = None
        if config.client_id:
            place = check_address(config.token_url, "fhir.token_url") if config.token_url else token_url(http, base)
            key = load_ec_key(folder.fhir_key, read_passphrase(folder.passphrase))
            sign_in = SignIn(http, place, config.client_id, config.scope, key, now_utc)

        aliases = [check_alias(url, "fhir.server_aliases") for url in config.server_aliases]
        yield FhirServer(http, base, sign_in, pause=pause, aliases=aliases)


def run(folder: SiteFolder) -> None:
    """Serve and pull until SIGTERM.

    Raises:
        InputError: settings, a key or the database; or anybody could send consents, or not by TLS.
        UnavailableError: the port is taken.
    """
    config = folder.settings().fhir
    token = _token(folder, config)
    tls = _tls(folder, config)
    stop_event = threading.Event()
    poke_event = threading.Event()

    def stop(*_: object) -> None:
        stop_event.set()
        poke_event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    # Its tracebacks would quote what came in; our own log says where it failed.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    try:
        with open_intake(folder) as intake, _listening(config) as listener:
            uvicorn_config = uvicorn.Config(
                make_app(intake, token, poke_event.set, now_utc, Telling(now_utc, file=folder.fhir_enumeration)),
                http=Protocol,
                loop=f"{Loop.__module__}:{Loop.__name__}",
                h11_max_incomplete_event_size=HEAD_BYTES,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=TOTAL,
                timeout_graceful_shutdown=2,
                **tls,
            )
            server = uvicorn.Server(uvicorn_config)
            # In a thread: the main thread pulls, and gets the signals.
            thread = threading.Thread(target=_serve, args=(server, listener, stop), name="fhir", daemon=True)
            thread.start()
            _log.info("listening at %s:%d", *listener.getsockname()[:2])

            try:
                puller = Puller(
                    intake,
                    (lambda: open_server(folder, stop_event.wait)) if config.server else None,
                    config.pull_seconds,
                    timedelta(seconds=config.overlap_seconds),
                    config.reconcile_hour,
                    random.Random(),  # noqa: S311 - spreads retries, keeps no secret
                )
                puller.run(poke_event, stop_event)
            finally:
                server.should_exit = True
                thread.join(3)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve(server: uvicorn.Server, listener: socket.socket, stop: Callable[[], None]) -> None:
    try:
        server.run([listener])
    # An endpoint that fails ends the process, and `up` starts it again.
    finally:
        stop()


@contextmanager
def _listening(config: FhirConfig) -> Iterator[socket.socket]:
    try:
        listener = bound(config.host, config.port, config.connections_per_address)
        listener.listen()
    except OSError as err:
        raise UnavailableError(f"cannot listen at {config.host}:{config.port}: {err.strerror}") from None

    with listener:
        yield listener


def _token(folder: SiteFolder, config: FhirConfig) -> bytes | None:
    """The bearer token; nobody gets in without it or a client certificate."""
    where = f"{folder.settings_file} [fhir]"
    path = _file(folder, config.token_file)

    if path is None:
        if not config.client_ca:
            raise ConfigError("anybody could send consents", where=where, remedy="set token_file, client_ca or both")
        return None

    token = read_private(path).strip()
    if len(token) < _LEAST_TOKEN_BYTES:
        raise ConfigError("the bearer token is too short", where=str(path), remedy="fedforget-site fhir init")
    return token


def _tls(folder: SiteFolder, config: FhirConfig) -> dict[str, Any]:
    """Options of uvicorn for TLS and for certificates of clients."""
    where = f"{folder.settings_file} [fhir]"
    certificate = _file(folder, config.certificate)
    key = _file(folder, config.key)
    authority = _file(folder, config.client_ca)

    if certificate is None or key is None:
        if certificate or key or authority:
            raise ConfigError("TLS needs both certificate and key", where=where, remedy="set both")
        if config.host not in _LOOPBACK:
            raise ConfigError("listens on the network without TLS", where=where, remedy="set certificate and key")
        return {}

    # Only to refuse a key that others can read. The server reads it by itself.
    read_private(key)
    for path in (certificate, *([authority] if authority else [])):
        if not os.access(path, os.R_OK):
            raise ConfigError("cannot be read", where=str(path), remedy="check the path and its owner")

    options: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    if authority is not None:
        options |= {"ssl_ca_certs": str(authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


def _file(folder: SiteFolder, path: str) -> Path | None:
    return folder.root / path if path else None
