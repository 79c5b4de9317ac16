"""The hospital's FHIR server as a client sees it: pages of a search, signed in, patient with its faults."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from client.fhir.resources import Resource, UnusableResourceError, parse_json, resources_in
from client.fhir.smart import SignIn
from common.errors import ConfigError, RefusedError, UnavailableError, WireError
from common.supervisor import Backoff

_TRIES = 5
_MOST_PAGES = 100_000
_PAGE_BYTES = 32 * 2**20
_LONGEST_PAUSE = 60.0
_ACCEPT = {"accept": "application/fhir+json"}
_BACKOFF = Backoff(first=0.5, most=20.0)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def check_address(url: str, where: str) -> str:
    """The address without a slash at its end; it must be https, or on this machine.

    Raises:
        ConfigError: it is neither, or holds a password, a query or a fragment.
    """
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise ConfigError("not an https address", where=where, remedy="plain http is for this machine's own only")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("an address with more than host, port and path", where=where, remedy="leave that out")
    return url.rstrip("/")


def http_client(ca: Path | None, timeout: float = 30.0) -> httpx.Client:
    """A client that trusts the hospital's own authority if given, follows no redirect and reads no proxy settings.

    Raises:
        ConfigError: the authority's certificate cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "not a certificate in PEM", where=str(ca), remedy="give that of the FHIR server's authority"
        ) from None
    return httpx.Client(verify=context, timeout=timeout, follow_redirects=False, trust_env=False)


def token_url(http: httpx.Client, base: str) -> str:
    """The token endpoint that the server names in its `smart-configuration`.

    Raises:
        UnavailableError: it does not answer.
        WireError: it names none.
    """
    try:
        answer = http.get(f"{base}/.well-known/smart-configuration", headers={"accept": "application/json"})
    except httpx.HTTPError as err:
        raise UnavailableError(f"{base}: no answer ({type(err).__name__})") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise UnavailableError(f"{base}: does not say where to sign in ({answer.status_code})")
    try:
        found = parse_json(answer.content).get("token_endpoint") if answer.status_code == 200 else None
    except UnusableResourceError:
        found = None
    if not isinstance(found, str):
        raise WireError(f"{base}: names no token endpoint; give token_url in site.toml")
    return check_address(found, "token_endpoint")


@dataclass(frozen=True, slots=True)
class FhirServer:
    """Reads from one server.

    Attributes:
        base: its address.
        sign_in: None for a server that asks for none.
        rng: spreads retries.
        pause: sleeps for some seconds.
    """

    http: httpx.Client
    base: str
    sign_in: SignIn | None = None
    rng: random.Random = field(default_factory=random.Random)
    pause: Callable[[float], object] = time.sleep

    def search(self, parameters: Mapping[str, str]) -> Iterator[tuple[Resource, ...]]:
        """Consents that match, page by page.

        Raises:
            UnavailableError: the server does not answer, or still fails after some tries.
            RefusedError: it refuses us.
            WireError: its answer is not what FHIR says, or leads elsewhere.
        """
        return self._pages(str(httpx.URL(f"{self.base}/Consent", params=dict(parameters))))

    def history(self, consent: str) -> Iterator[tuple[Resource, ...]]:
        """All versions of a consent, page by page; nothing where the server keeps none. Raises as `search`."""
        return self._pages(f"{self.base}/Consent/{consent}/_history", absent_is_empty=True)

    def _pages(self, url: str, *, absent_is_empty: bool = False) -> Iterator[tuple[Resource, ...]]:
        seen: set[str] = set()
        following: str | None = url
        while following is not None:
            if following in seen or len(seen) >= _MOST_PAGES:
                raise WireError(f"{self.base}: pages that lead in a circle, or without end")
            seen.add(following)
            content = self._get(following, absent_is_empty=absent_is_empty)
            if content is None:
                return
            try:
                bundle = parse_json(content)
                entries = tuple(r for r in resources_in(bundle) if r.get("resourceType") == "Consent")
            except UnusableResourceError as err:
                raise WireError(f"{self.base}: {err.problem}") from None
            if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in ("searchset", "history"):
                raise WireError(f"{self.base}: the answer to a search is not a Bundle of its results")
            yield entries
            following = self._next(bundle, following)

    def _next(self, bundle: Resource, here: str) -> str | None:
        links = bundle.get("link", [])
        for link in links if isinstance(links, list) else []:
            target = link.get("url") if isinstance(link, dict) and link.get("relation") == "next" else None
            if isinstance(target, str):
                url = urljoin(here, target)
                # A token must not be sent anywhere else, whatever a page says.
                if _origin(url) != _origin(self.base):
                    raise WireError(f"{self.base}: the next page is at another server")
                return url
        return None

    def _get(self, url: str, *, absent_is_empty: bool) -> bytes | None:
        signed_in_again, tries, reason = False, 0, ""
        while tries < _TRIES:
            status, content, wait = self._once(url)
            if status == 200:
                return content
            if status in (404, 405, 410, 501) and absent_is_empty:
                return None
            if status == 401 and self.sign_in is not None and not signed_in_again:
                self.sign_in.forget()
                signed_in_again = True
                continue
            if status in (401, 403):
                raise RefusedError(f"{self.base}: refuses this client ({status}): see its registration there")
            if status and status < 500 and status not in (408, 429):
                raise WireError(f"{self.base}: does not understand what is asked ({status})")
            reason = str(status) if status else "no answer"
            tries += 1
            if tries < _TRIES:
                self.pause(max(wait, _BACKOFF.delay(tries, self.rng)))
        raise UnavailableError(f"{self.base}: still fails after {_TRIES} tries ({reason})")

    def _once(self, url: str) -> tuple[int, bytes, float]:
        """Status (0 for no answer), content, and for how many seconds the server asks to be left alone."""
        headers = dict(_ACCEPT)
        if self.sign_in is not None:
            headers["authorization"] = f"Bearer {self.sign_in.token()}"
        try:
            with self.http.stream("GET", url, headers=headers) as answer:
                content = bytearray()
                for block in answer.iter_bytes():
                    content += block
                    if len(content) > _PAGE_BYTES:
                        raise WireError(f"{self.base}: a page of more than {_PAGE_BYTES} bytes")
                after = answer.headers.get("retry-after", "")
                wait = min(float(after), _LONGEST_PAUSE) if after.isdecimal() else 0.0
                return answer.status_code, bytes(content), wait
        except httpx.HTTPError:
            return 0, b"", 0.0


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
