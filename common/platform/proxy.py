"""The HTTP proxy of a hospital's network: which connections use it, and how (RFC 9110, 9.3.6).

The address of a proxy may contain its password. Nothing here shows it: `str()` and `repr()` omit it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from common.errors import ConfigError, UnavailableError

VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy"})
"""Environment variables that other programs obey, in lower case."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LONGEST_ANSWER = 2**16
_HINTS = {
    403: "the proxy does not allow this address: have it allowed",
    407: "the proxy asks for a user and a password, or refuses these",
    502: "the proxy cannot reach it",
    503: "the proxy cannot reach it",
    504: "the proxy cannot reach it",
}


class ProxyRefusalError(UnavailableError):
    """The proxy answers but refuses the connection."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: its address with user and password.
        host, port: of the proxy.
        direct: destinations reached without it: names with their subdomains, addresses, networks, each with or without
            a port; `*` for everything.
    """

    url: str = field(repr=False)
    host: str
    port: int
    direct: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"http://{_bracketed(self.host)}:{self.port}"

    def serves(self, host: str, port: int) -> bool:
        """Whether this address is reached through the proxy; this machine itself never is."""
        host = host.strip("[]").rstrip(".").lower()
        address = _address(host)
        if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
            return False
        return not any(_matches(pattern, host, address, port) for pattern in self.direct)

    def tunnel(self, host: str, port: int, timeout: float) -> socket.socket:
        """A connection through the proxy, which looks the name up itself.

        Raises:
            ProxyRefusalError: it answers but refuses the connection.
            OSError: it does not answer.
        """
        connection = socket.create_connection((self.host, self.port), timeout)

        try:
            connection.sendall(self._request(host, port))
            status = _status_of(connection)
        except (OSError, UnavailableError):
            connection.close()
            raise

        if not 200 <= status < 300:
            connection.close()
            raise ProxyRefusalError(_HINTS.get(status, f"the proxy answers {status}"))
        return connection

    def _request(self, host: str, port: int) -> bytes:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
        target = f"{_bracketed(name)}:{port}"
        headers = {"Host": target, **self._headers()}
        lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _headers(self) -> dict[str, str]:
        parts = urlsplit(self.url)
        if parts.username is None:
            return {}
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": f"Basic {b64encode(secret.encode()).decode('ascii')}"}


def _status_of(connection: socket.socket) -> int:
    """The status of a proxy's answer. Not a byte is read beyond it: a mail server behind the proxy speaks first."""
    answer = bytearray()
    while not answer.endswith((b"\r\n\r\n", b"\n\n")):
        byte = connection.recv(1)
        if not byte and not answer:
            raise ConnectionResetError("the proxy closed the connection")
        answer += byte
        if not byte or len(answer) > _LONGEST_ANSWER:
            raise ProxyRefusalError("the server there is not an HTTP proxy")

    match = _STATUS.match(answer)
    if match is None:
        raise ProxyRefusalError("the server there is not an HTTP proxy")

    return int(match[1])


def read_proxy(url: str, direct: Sequence[str], where: str) -> Proxy:
    """Check a proxy's address; error messages never quote it.

    Raises:
        ConfigError: it is not a proxy's address, or an item of `direct` is not a name, an address or a network.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        parts = urlsplit("")
        host = None
        port = None

    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(
            "not the address of an HTTP proxy", where=where, remedy="http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
        )

    if not url.isascii() or not url.isprintable() or any(letter.isspace() for letter in url):
        raise ConfigError("a proxy's address with special characters", where=where, remedy="write them as %XX")
    patterns = tuple(text.strip().lower() for text in direct if text.strip())
    if not all(map(_is_pattern, patterns)):
        raise ConfigError(
            "no_proxy has an entry that is not a name, address or network",
            where=where,
            remedy='e.g. ["ehr.hospital.example", "10.0.0.0/8"]',
        )

    return Proxy(url.rstrip("/"), host, port, patterns)


def proxy_of_environment(environment: Mapping[str, str], direct: Sequence[str] = ()) -> Proxy | None:
    """The proxy that `HTTPS_PROXY` and `NO_PROXY` name, or None; raises as `read_proxy`.

    Args:
        direct: further destinations without proxy.
    """
    url = variable(environment, "https_proxy")
    without = (*direct, *variable(environment, "no_proxy").split(","))
    return read_proxy(url, without, "HTTPS_PROXY") if url else None


def variable(environment: Mapping[str, str], small: str) -> str:
    """An environment variable that some programs write in small letters, others in capitals; empty if unset."""
    return (environment.get(small) or environment.get(small.upper()) or "").strip()


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no program finds a proxy."""
    return {name: value for name, value in environment.items() if name.lower() not in VARIABLES}


def _is_pattern(pattern: str) -> bool:
    host = _split(pattern)[0].lstrip(".")
    return pattern == "*" or _network(host) is not None or bool(re.fullmatch(r"[a-z0-9_.-]{1,253}", host))


def _matches(pattern: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if pattern == "*":
        return True
    name, only = _split(pattern)
    if only is not None and only != port:
        return False
    network = _network(name)
    if network is not None:
        return address is not None and address.version == network.version and address in network
    name = name.lstrip(".").rstrip(".")

    return host == name or host.endswith(f".{name}")


def _split(pattern: str) -> tuple[str, int | None]:
    """Host and port of a pattern; colons within an IPv6 address do not precede a port."""
    match = re.fullmatch(r"\[?([^\]]*?)\]?:(\d{1,5})", pattern)
    if match is None or (":" in match[1] and not pattern.startswith("[")):
        return pattern.strip("[]"), None
    return match[1], int(match[2])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
