"""Addresses that a FHIR server names in its answers: which of them are its own, and may be shown the token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urljoin

import httpx

from common.errors import ConfigError, WireError

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_DOTS = re.compile(r"(?:/|\\)(?:\.|%2e){1,2}(?:/|\\|$)", re.IGNORECASE)
_LONGEST = 200
_SHOWN = re.compile(r"[A-Za-z0-9\-._~:/%\[\]]+", re.ASCII)


def check_address(url: str, where: str) -> str:
    """The address without a slash at its end; it must be https, or on this machine.

    Raises:
        ConfigError: it is neither, or holds a password, a query or a fragment.
    """
    parts = _parsed(url)
    local = parts is not None and parts.scheme == "http" and parts.host in _LOOPBACK
    if parts is None or not parts.host or not (parts.scheme == "https" or local):
        raise ConfigError("not an https address", where=where, remedy="plain http is for this machine's own only")
    _check_plain(parts, where)

    return url.rstrip("/")


def check_alias(url: str, where: str) -> str:
    """An address by which the server calls itself; nothing is ever sent there, so that it may be plain http.

    Raises:
        ConfigError: it is no address, or holds a password, a query or a fragment.
    """
    parts = _parsed(url)
    if parts is None or not parts.host or parts.scheme not in ("http", "https"):
        raise ConfigError("not an address", where=where, remedy="e.g. http://fhir.svc.cluster.local/fhir")
    _check_plain(parts, where)

    return url.rstrip("/")


def own(target: str, here: httpx.URL, base: str, aliases: Sequence[str]) -> httpx.URL:
    """The address of a link on the page `here`, on the server `base`: never another host, port or part of it.

    A link to one of the `aliases` is followed at `base`, as it comes from a server behind a proxy.

    Raises:
        WireError: the link leads elsewhere.
    """
    try:
        url = httpx.URL(urljoin(str(here), target))
    except (httpx.InvalidURL, ValueError):
        raise WireError(f"{base}: a link that is not an address") from None

    for address in (base, *aliases):
        rest = _below(url, httpx.URL(address))
        if rest is not None:
            return url if address == base else httpx.URL(f"{base}{rest}")

    safe_url = _suggested(url)
    raise WireError(
        f"{base}: a link leads to another server, {safe_url}; if the server calls itself so behind a proxy, set"
        f' server_aliases = ["{safe_url}"] under [fhir] in site.toml'
    )


def rest_below(address: str, base: str) -> str | None:
    """The path of an absolute address below `base`, from its first slash on; None if it is not the same place."""
    try:
        return _below(httpx.URL(address), httpx.URL(base))
    except (httpx.InvalidURL, ValueError):
        return None


def _below(url: httpx.URL, base: httpx.URL) -> str | None:
    """Path and query of `url` after `base`; None if it is not the same place or below it."""
    if (url.scheme, url.host, _port(url)) != (base.scheme, base.host, _port(base)):
        return None
    # Dots could lead out of the base, and a user's name would become a header.
    if url.userinfo or _DOTS.search(url.raw_path.decode("ascii").partition("?")[0]):
        return None
    path = url.raw_path.decode("ascii")
    root = base.raw_path.decode("ascii").rstrip("/")
    rest = path[len(root) :]

    return rest if path.startswith(root) and (not rest or rest[0] in "/?") else None


def _port(url: httpx.URL) -> int | None:
    return url.port or {"https": 443, "http": 80}.get(url.scheme)


def _suggested(url: httpx.URL) -> str:
    """The base of a foreign address, as far as it can be told; without its query, which may hold anything."""
    path = re.sub(r"/Consent(/.*)?$", "", url.path).rstrip("/")
    safe_url = f"{url.scheme}://{url.netloc.decode('ascii')}{path}"
    return (
        safe_url
        if len(safe_url) <= _LONGEST and _SHOWN.fullmatch(safe_url) and not url.userinfo
        else "one not to be shown"
    )


def _parsed(url: str) -> httpx.URL | None:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return None


def _check_plain(parts: httpx.URL, where: str) -> None:
    if parts.userinfo or parts.query or parts.fragment:
        raise ConfigError("an address with more than host, port and path", where=where, remedy="leave that out")
