"""The checks in front of every page: host, limits, session, role, origin, token, size, freshness; then its handler."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Message, Receive

from common.errors import FedForgetError, InputError, RefusedError, UnavailableError
from common.platform.console.page import Page, Visit, is_local
from common.platform.console.sign_in.sessions import new_token

if TYPE_CHECKING:
    from common.platform.console.app import Console

_FORM_BYTES = 2**18
_MOST_FIELDS = 1200
_MOST_COOKIE = 100

_log = logging.getLogger("fedforget.console")


class _Refusal(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.remedy = remedy


def answer(console: Console, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page."""

    async def endpoint(request: Request) -> Response:
        cookie = request.cookies.get(console.cookie("session"), "")[:_MOST_COOKIE]
        is_new = not cookie
        cookie = cookie or new_token()
        now = console.clock()
        session = None if is_new else console.sessions.find(cookie, now)
        language = console.languages.chosen(
            request.cookies.get(console.cookie("language"), ""), request.headers.get("accept-language", "")[:200]
        )
        address = address_of(request, console.config.trusted_proxies)
        visit = Visit(request, console, session, cookie, FormData(), {}, address, language, now)

        try:
            # In this order: what costs least and says least comes first, and a handler runs only behind all of it.
            _check_host(console, request)
            _check_rate(console, visit)
            if (elsewhere := _not_admitted(page, visit)) is not None:
                return elsewhere
            if page.method == "POST":
                await _read(page, visit)
            if page.is_fresh and session is not None and not console.is_fresh(session, now):
                return _sign_in_again(page, visit)
            response = await run_in_threadpool(_handled, page, visit)
        except _Refusal as refusal:
            response = await run_in_threadpool(_problem, page, visit, refusal)
        finally:
            await visit.form.close()

        if is_new and page.is_public:
            set_cookie(response, console.cookie("session"), cookie)

        return response

    return endpoint


def set_cookie(
    response: Response, name: str, value: str, *, most_seconds: int | None = None, lax: bool = False
) -> None:
    """Set a cookie for this host alone, over TLS alone, out of reach of scripts."""
    response.set_cookie(
        name, value, max_age=most_seconds, path="/", secure=True, httponly=True, samesite="lax" if lax else "strict"
    )


def address_of(request: Request, trusted: tuple[str, ...]) -> str:
    """The address of a browser, an IPv6 one by its network; behind trusted proxies, the last one that is not theirs."""
    addresses = [request.client.host if request.client else ""]
    # The header is believed only from a trusted proxy; anybody else can write anything into it.
    if addresses[0] in trusted:
        hops = request.headers.get("x-forwarded-for", "")[:500].split(",")
        # From the right, where the nearest proxy has added its own.
        addresses = [part.strip() for part in reversed(hops) if part.strip()] or addresses
    address = next((one for one in addresses if one not in trusted), addresses[-1])

    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"

    # One party has a whole /64 network of IPv6, and could change its address at will.
    return ip.exploded[:19] if ip.version == 6 else str(ip)


def _check_host(console: Console, request: Request) -> None:
    """Refuse another host's name: an attacker's name may lead to this address."""
    host = request.headers.get("host", "")
    ours = {urlsplit(console.public_url).netloc}
    if not console.config.public_url and console.config.host in ("127.0.0.1", "::1", "localhost"):
        ours |= {f"{name}:{urlsplit(console.public_url).port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if host not in ours:
        raise _Refusal(421, "This is not the address of this console.")


def _check_rate(console: Console, visit: Visit) -> None:
    if visit.session is None:
        is_allowed = console.strangers.allows(visit.address, visit.now)
    else:
        is_allowed = console.visits.allows(visit.session.number, visit.now)
    if not is_allowed:
        raise _Refusal(429, "Too many requests.", "Wait a moment, then try again.")


def _not_admitted(page: Page, visit: Visit) -> Response | None:
    """Where a person must go first; None if they may use the page."""
    if page.is_public:
        return None
    if visit.session is None:
        if page.method == "GET" and "hx-request" not in visit.request.headers:
            following = _here(visit.request)
            return RedirectResponse(f"/sign-in?{urlencode({'next': following})}", 303)
        raise _Refusal(401, "Your session has ended.", "Sign in again.")
    if not page.roles & visit.session.person.roles:
        raise _Refusal(403, "Your roles do not allow this.", "Ask somebody who has the role.")
    return None


def _sign_in_again(page: Page, visit: Visit) -> Response:
    """Ask for a fresh sign-in; afterwards the person is at the page from which they came."""
    if page.is_api:
        raise _Refusal(401, "Sign in again first.")
    came_from = urlsplit(visit.request.headers.get("referer", ""))
    back = f"{came_from.path}?{came_from.query}" if came_from.query else came_from.path
    following = back if visit.request.method == "POST" and is_local(back) else _here(visit.request)
    return RedirectResponse(f"/sign-in/again?{urlencode({'next': following})}", 303)


def _here(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query and request.method == "GET" else request.url.path


async def _read(page: Page, visit: Visit) -> None:
    """The form, or the JSON of a script; refused from another origin, without the token, or if it is too large."""
    request = visit.request
    origin = request.headers.get("origin")
    ours = {visit.console.public_url, f"{urlsplit(visit.console.public_url).scheme}://{request.headers.get('host')}"}
    # The token alone would do for browsers that keep to the rules; the origin also stops a leaked one.
    if origin not in ours or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise _Refusal(403, "This form was not sent from this console.")
    most = _FORM_BYTES + page.upload_bytes
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:18]) > most:
        raise _Refusal(413, "This is too large.", "Send a smaller file.")
    bounded_request = Request(request.scope, _limited(request.receive, most))

    try:
        if page.is_api:
            content = json.loads(await bounded_request.body())
            visit.body = content if isinstance(content, dict) else {}
            token = str(visit.body.get("csrf", ""))
        else:
            largest_part = max(page.upload_bytes, _FORM_BYTES)
            visit.form = await bounded_request.form(
                max_files=1 if page.upload_bytes else 0, max_fields=_MOST_FIELDS, max_part_size=largest_part
            )
            token = visit.field("csrf")
    except (HTTPException, MultiPartException, ClientDisconnect, ValueError):
        raise _Refusal(400, "The form cannot be read.") from None

    if not hmac.compare_digest(token.encode(), visit.csrf.encode()):
        raise _Refusal(403, "This page has expired.", "Load it again, then send the form once more.")


def _limited(receive: Receive, most: int) -> Receive:
    byte_count = 0

    async def limited() -> Message:
        nonlocal byte_count
        message = await receive()
        byte_count += len(message.get("body", b""))
        if byte_count > most:
            # The parser closes its files at this error alone.
            raise MultiPartException("too large")
        return message

    return limited


def _handled(page: Page, visit: Visit) -> Response:
    """Run the handler. Foreseen errors are for the person; of others, only the log tells where they happened."""
    try:
        return page.handler(visit)
    except InputError as err:
        raise _Refusal(400, err.problem, err.remedy) from None
    except RefusedError as err:
        raise _Refusal(409, str(err)) from None
    # The text may name hosts and paths: a browser is told only that it did not work.
    except UnavailableError:
        _log.error("a page failed: %s", page.path)
        raise _Refusal(503, "The console cannot do this at the moment.", "Try again in a moment.") from None
    except FedForgetError as err:
        raise _Refusal(500, str(err)) from None
    except SQLAlchemyError as err:
        _log.error("a page failed: %s (%s)", page.path, type(err).__name__)
        raise _Refusal(503, "The database does not answer.", "Try again in a moment.") from None


def _problem(page: Page, visit: Visit, refusal: _Refusal) -> Response:
    problem = visit.text(refusal.problem)
    remedy = visit.text(refusal.remedy) if refusal.remedy else ""
    if page.is_api:
        return JSONResponse({"problem": problem, "remedy": remedy}, refusal.status)
    if refusal.status in (421, 429):
        return PlainTextResponse(f"{problem} {remedy}".strip(), refusal.status)
    values: Mapping[str, Any] = {"problem": problem, "remedy": remedy}
    return visit.render("problem.html.j2", refusal.status, **values)
