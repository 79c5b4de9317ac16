"""Serves a console until SIGTERM: TLS from the settings, few connections for one address, no traceback in a log."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from common.errors import ConfigError, UnavailableError
from common.files import read_private
from common.platform.console.app import Console, console_app
from common.platform.console.settings import ConsoleConfig
from common.platform.listening.http_listener import PUNCTUAL_LOOP, Connections, Listener, PunctualProtocol

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PER_ADDRESS = 128
_STRANGERS = 512

_log = logging.getLogger("fedforget.console")


def public_url(config: ConsoleConfig) -> str:
    """Scheme and host that browsers use."""
    if config.public_url:
        return config.public_url.rstrip("/")
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'https' if config.certificate else 'http'}://{host}:{config.port}"


def tls_options(config: ConsoleConfig, folder: Path, where: str) -> dict[str, Any]:
    """Options of uvicorn for TLS.

    Raises:
        ConfigError: TLS is missing although others can reach the address, or half of it is.
        InputError: the key cannot be read, or others can read it.
    """
    if not config.certificate and not config.key:
        if config.host not in _LOOPBACK:
            raise ConfigError("listens on the network without TLS", where=where, remedy="set certificate and key")
        return {}
    if not config.certificate or not config.key:
        raise ConfigError("TLS needs both certificate and key", where=where, remedy="set both")
    certificate = folder / config.certificate
    key = folder / config.key
    # Read before uvicorn does: it would accept a key that others can read.
    read_private(key)
    if not os.access(certificate, os.R_OK):
        raise ConfigError("cannot be read", where=str(certificate), remedy="check the path and its owner")
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def check_public_url(config: ConsoleConfig, where: str) -> None:
    """Refuse an address that is more, or less, than scheme and host; raises a `ConfigError`."""
    url = config.public_url
    is_plain = url.startswith("http://127.0.0.1:") or url.startswith("http://localhost:")
    if url and (not (url.startswith("https://") or is_plain) or "/" in url.rstrip("/").partition("://")[2]):
        raise ConfigError("public_url is not an https address without a path", where=where, remedy="https://NAME")


def serve(console: Console, tls: dict[str, Any]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        UnavailableError: the port is taken.
    """
    # Tracebacks would quote what came in; our own log says where it failed.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        console_app(console),
        http=PunctualProtocol,
        loop=PUNCTUAL_LOOP,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        **tls,
    )

    with _listening(console.config) as listener:
        _log.info("listening at %s:%d", *listener.getsockname()[:2])
        server = uvicorn.Server(config)
        # uvicorn raises the signal again once it has stopped, which must not end the process by that signal.
        before = {number: signal.signal(number, _stopped) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            server.run([listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _stopped(number: int, frame: object) -> None:  # noqa: ARG001 - as signal handlers are called
    _log.info("stopped")


@contextmanager
def _listening(config: ConsoleConfig) -> Iterator[Listener]:
    host = "127.0.0.1" if config.host == "localhost" else config.host
    try:
        # All browsers behind a proxy come from its address.
        per_address = _STRANGERS if config.trusted_proxies else _PER_ADDRESS
        listener = Listener.at(host, config.port, Connections(per_address, _STRANGERS))
        listener.listen()
    except OSError as err:
        raise UnavailableError(f"cannot listen at {config.host}:{config.port}: {err.strerror}") from None

    with listener:
        yield listener
