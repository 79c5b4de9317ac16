"""The hospital's FHIR server as a client sees it: pages of a search, signed in, patient with its faults."""

from __future__ import annotations

import dataclasses
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from client.intake.fhir.pull.links import check_address, own
from client.intake.fhir.pull.page import Page, read_page
from client.intake.fhir.pull.smart import SignIn
from client.intake.fhir.strict_json import UnusableResourceError, parse_json
from common.errors import ConfigError, RefusedError, UnavailableError, WireError
from common.platform.processes.supervisor import Backoff
from common.platform.proxy import Proxy
from common.platform.proxy_routes import Routes

_TRIES = 5
_MOST_PAGES = 100_000
_PAGE_BYTES = 32 * 2**20
_MOST_IDLE = 100
"""Pages in a row that bring nothing which an earlier one did not have."""
_MOST_HOPS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_PAUSE = 60.0
_HEADERS = {
    "accept": "application/fhir+json",
    # A server may answer the same search from a cache, in which a withdrawal is not yet.
    "cache-control": "no-cache",
    # A server without one of the search's parameters gives more than was asked for, which does no harm.
    "prefer": "handling=lenient",
}
_BACKOFF = Backoff(first=0.5, most=20.0)


def http_client(ca: Path | None, timeout: float = 30.0, proxy: Proxy | None = None) -> httpx.Client:
    """A client that trusts the hospital's own authority if given, follows no redirect and takes the site's proxy.

    Raises:
        ConfigError: the authority's certificate cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "not a certificate in PEM", where=str(ca), remedy="give that of the FHIR server's authority"
        ) from None

    # Nothing from the environment: the proxy is the one in site.toml.
    return httpx.Client(transport=Routes(context, proxy), timeout=timeout, follow_redirects=False, trust_env=False)


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
        token_endpoint = parse_json(answer.content).get("token_endpoint") if answer.status_code == 200 else None
    except UnusableResourceError:
        token_endpoint = None

    if not isinstance(token_endpoint, str):
        raise WireError(f"{base}: names no token endpoint; give token_url in site.toml")
    return check_address(token_endpoint, "token_endpoint")


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer: a status of 0 for none; `wait` is for how many seconds the server asks to be left alone."""

    status: int = 0
    content: bytes = b""
    charset: str = ""
    location: str = ""
    date: datetime | None = None
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class FhirServer:
    """Reads from one server.

    Attributes:
        base: its address.
        sign_in: None for a server that asks for none.
        rng: spreads retries.
        pause: sleeps for some seconds.
        aliases: addresses by which it calls itself in links.
    """

    http: httpx.Client
    base: str
    sign_in: SignIn | None = None
    rng: random.Random = field(default_factory=random.Random)
    pause: Callable[[float], object] = time.sleep
    aliases: Sequence[str] = ()

    @property
    def bases(self) -> tuple[str, ...]:
        """All addresses by which the server calls itself."""
        return (self.base, *self.aliases)

    def search(self, parameters: Mapping[str, str]) -> Iterator[Page]:
        """Consents that match, page by page.

        Raises:
            UnavailableError: the server does not answer, or still fails after some tries.
            RefusedError: it refuses us.
            WireError: its answer is not what FHIR says, or leads elsewhere.
        """
        return self._pages(httpx.URL(f"{self.base}/Consent", params=dict(parameters)))

    def history(self, consent: str) -> Iterator[Page]:
        """All versions of a consent, page by page; nothing where the server keeps none. Raises as `search`."""
        return self._pages(httpx.URL(f"{self.base}/Consent/{consent}/_history"), absent_is_empty=True)

    def _pages(self, url: httpx.URL, *, absent_is_empty: bool = False) -> Iterator[Page]:
        urls_seen: set[httpx.URL] = set()
        pages_seen: set[int] = set()
        idle = 0
        following: httpx.URL | None = url

        while following is not None:
            if following in urls_seen or len(urls_seen) >= _MOST_PAGES or idle > _MOST_IDLE:
                raise WireError(f"{self.base}: pages that form a loop, or never end")
            urls_seen.add(following)
            answer = self._get(following, absent_is_empty=absent_is_empty)
            if answer is None:
                return
            try:
                page = read_page(answer.content, answer.charset)
            except UnusableResourceError as err:
                raise WireError(f"{self.base}: {err.problem}") from None

            yield dataclasses.replace(page, date=answer.date)
            # A server may give the same page under ever new addresses: what it brings counts.
            names = hash(frozenset((str(r.get("id")), str(r.get("meta"))) for r in (*page.consents, *page.unclear)))
            idle = idle + 1 if names in pages_seen or not (page.consents or page.unclear) else 0
            pages_seen.add(names)
            following = next((self._own(target, following) for name, target in page.links if name == "next"), None)

    def _own(self, target: str, here: httpx.URL) -> httpx.URL:
        # A token must not be sent anywhere else, whatever a page says.
        return own(target, here, self.base, self.aliases)

    def _get(self, url: httpx.URL, *, absent_is_empty: bool) -> _Answer | None:
        signed_in_again = False
        tries = 0
        hops = 0
        reason = ""

        while tries < _TRIES:
            answer = self._once(url)
            status = answer.status
            if status == 200:
                return answer
            if status in _REDIRECTS and answer.location and hops < _MOST_HOPS:
                url = self._own(answer.location, url)
                hops += 1
                continue

            # Servers without a history answer in all these ways.
            if status in (404, 405, 410, 501) and absent_is_empty:
                return None
            # A server may end a token early. Once is enough: after that it refuses this client.
            if status == 401 and self.sign_in is not None and not signed_in_again:
                self.sign_in.forget()
                signed_in_again = True
                continue

            if status in (401, 403):
                raise RefusedError(f"{self.base}: refuses this client ({status}): see its registration there")
            if status and status < 500 and status not in (408, 425, 429):
                raise WireError(
                    f"{self.base}: does not understand the request ({status}): is it the server's base address?"
                )

            reason = str(status) if status else "no answer"
            tries += 1
            if tries < _TRIES:
                self.pause(max(answer.wait, _BACKOFF.delay(tries, self.rng)))

        raise UnavailableError(f"{self.base}: still fails after {_TRIES} tries ({reason})")

    def _once(self, url: httpx.URL) -> _Answer:
        headers = dict(_HEADERS)
        if self.sign_in is not None:
            headers["authorization"] = f"Bearer {self.sign_in.token()}"
        try:
            with self.http.stream("GET", url, headers=headers) as answer:
                content = bytearray()
                for block in answer.iter_bytes():
                    content += block
                    # Counted while it is read: the length in the head is the server's word.
                    if len(content) > _PAGE_BYTES:
                        raise WireError(f"{self.base}: a page of more than {_PAGE_BYTES} bytes")

                date = _moment(answer.headers.get("date", ""))

                return _Answer(
                    answer.status_code,
                    bytes(content),
                    answer.charset_encoding or "",
                    answer.headers.get("location", ""),
                    date,
                    _asked_to_wait(answer.headers.get("retry-after", ""), date),
                )
        except (httpx.HTTPError, httpx.InvalidURL):
            return _Answer()


def _asked_to_wait(after: str, date: datetime | None) -> float:
    """Seconds of a `Retry-After`, which is a number or a moment (RFC 9110, section 10.2.3)."""
    after = after.strip()
    if after.isascii() and after.isdecimal() and len(after) < 10:
        return min(float(after), _LONGEST_PAUSE)
    moment = _moment(after)
    # By the server's own clock, which named the moment.
    if moment is None or date is None:
        return 0.0
    return min(max((moment - date).total_seconds(), 0.0), _LONGEST_PAUSE)


def _moment(text: str) -> datetime | None:
    """An HTTP date."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None

    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
