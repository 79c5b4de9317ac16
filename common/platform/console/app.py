"""The application of a console: its pages with all checks in front of them, its static files, its health."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources.abc import Traversable
from typing import Any

from starlette.applications import Starlette
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from common.platform.console.answering import answer
from common.platform.console.headers import Headers
from common.platform.console.languages import Languages
from common.platform.console.live import Live
from common.platform.console.page import NavItem, Page, Visit
from common.platform.console.rendering import StaticFile, Templates, kit_files, static_files
from common.platform.console.settings import ConsoleConfig
from common.platform.console.sign_in.accounts import Accounts
from common.platform.console.sign_in.events import Event, Recorder
from common.platform.console.sign_in.openid import OpenId
from common.platform.console.sign_in.sessions import Session, Sessions
from common.platform.listening.rate_limit import RateLimit

# A patient's form must not lie in a temporary file on its way to the vault.
MultiPartParser.spool_max_size = 64 * 2**20

_STATIC_AGE = 31_536_000


@dataclass(frozen=True, slots=True)
class Side:
    """What distinguishes the console of a site from that of the coordinator.

    Attributes:
        title: shown on every page, e.g. the hospital's name.
        package: whose `templates` are used, before those of the kit.
        roles: names of the roles, with a label each, in the order of the menus.
        pages: all pages but those of the kit.
        menu: entries of the menu, in order.
        newest: differs after a change, for live pages.
        record: keeps an event; if it fails, what the event is about does not happen.
        locales: folders with catalogues.
    """

    title: str
    package: str
    roles: Mapping[str, str]
    pages: Sequence[Page]
    menu: Sequence[NavItem]
    newest: Callable[[], object]
    record: Recorder
    locales: Sequence[Traversable] = ()
    statics: Sequence[Traversable] = ()


@dataclass(slots=True)
class Console:
    """A console that is running.

    Attributes:
        public_url: scheme and host that browsers use.
        accounts: its own accounts; None: only the provider's people sign in.
        provider: the identity provider, if there is one.
    """

    side: Side
    config: ConsoleConfig
    public_url: str
    accounts: Accounts | None
    provider: OpenId | None
    clock: Callable[[], datetime]
    statics: dict[str, StaticFile] = field(init=False)
    sessions: Sessions = field(init=False)
    languages: Languages = field(init=False)
    live: Live = field(init=False)
    pages: tuple[Page, ...] = field(init=False)
    attempts: RateLimit = field(init=False)
    """Attempts to sign in, by name and by address."""
    visits: RateLimit = field(init=False)
    strangers: RateLimit = field(init=False)
    _templates: Templates = field(init=False)
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        config = self.config
        # Drawn anew at each start: sessions end then as well, and forms with them.
        self._key = secrets.token_bytes(32)
        self.sessions = Sessions(timedelta(minutes=config.idle_minutes), timedelta(hours=config.session_hours))
        self.languages = Languages([kit_files("locales"), *self.side.locales], config.language)
        self.live = Live(self.side.newest)
        self.attempts = RateLimit(burst=8, per_second=1 / 30)
        self.visits = RateLimit(burst=120, per_second=20)
        self.strangers = RateLimit(burst=120, per_second=4)
        self.statics = static_files([kit_files("static"), *self.side.statics])
        common_values = {
            "title": self.side.title,
            "role_names": self.side.roles,
            "static": lambda name: f"/static/{self.statics[name].digest}/{name}",
            "menu": self._menu,
        }
        self._templates = Templates(self.side.package, self.languages, common_values)
        # Here, since they are pages of this console like all others.
        from common.platform.console.sign_in.pages import sign_in_pages  # noqa: PLC0415

        live = Page("/live", _live, roles=frozenset(self.side.roles))
        self.pages = (*sign_in_pages(self), live, *self.side.pages)

    @property
    def is_https(self) -> bool:
        """Whether browsers use TLS."""
        return self.public_url.startswith("https://")

    def cookie(self, name: str) -> str:
        """The name of a cookie. Browsers share cookies among the ports of a host, where a second console may be."""
        prefix = "__Host-" if self.is_https else ""
        return f"{prefix}{name}-{self.config.port}"

    def csrf_of(self, cookie: str) -> str:
        """The token of all forms of a browser, bound to its session cookie."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_fresh(self, session: Session, now: datetime) -> bool:
        """Whether a person has proved recently who they are."""
        return now - session.fresh <= timedelta(minutes=self.config.fresh_minutes)

    def record(self, kind: str, now: datetime, person: tuple[str, str, str], **details: str) -> None:
        """Keep an event about a person: issuer, subject, name."""
        issuer, subject, name = person
        self.side.record(Event(now, kind, issuer, subject, name, details))

    def render(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        """A page for a visit."""
        return self._templates.render(visit, template, values)

    def _menu(self, visit: Visit) -> list[NavItem]:
        roles = visit.session.person.roles if visit.session is not None else frozenset[str]()
        return [item for item in self.side.menu if item.roles & roles]


def console_app(console: Console) -> ASGIApp:
    """The application, for a server."""
    routes = [Route(page.path, answer(console, page), methods=[page.method]) for page in console.pages]
    routes.append(Route("/static/{digest}/{name}", _static(console), methods=["GET"]))
    routes.append(Route("/alive", _alive, methods=["GET"]))
    app = Starlette(routes=routes, exception_handlers={404: _missing(console), 405: _missing(console)})
    app.router.redirect_slashes = False

    return Headers(app, https=console.is_https)


def _static(console: Console) -> Callable[[Request], Response]:
    def send(request: Request) -> Response:
        file = console.statics.get(request.path_params["name"])
        if file is None or file.digest != request.path_params["digest"]:
            return PlainTextResponse("not found", 404)
        headers = {"cache-control": f"public, max-age={_STATIC_AGE}, immutable"}
        return Response(file.content, media_type=file.media_type, headers=headers)

    return send


def _alive(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls it
    return PlainTextResponse("ok")


def _missing(console: Console) -> Callable[[Request, Exception], Any]:
    def show(visit: Visit) -> Response:
        problem = visit.text("There is no such page.")
        return visit.render("problem.html.j2", 404, problem=problem, remedy="")

    endpoint = answer(console, Page("/missing", show, is_public=True))

    async def send(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as Starlette calls it
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("not found", 404)
        return await endpoint(request)

    return send


def _live(visit: Visit) -> Response:
    session = visit.session
    console = visit.console
    if session is None:
        return PlainTextResponse("", 401)
    # An open stream alone keeps no session open: `find` would.
    stream = console.live.stream(session.number, lambda: console.sessions.is_open(session, console.clock()))
    return stream or PlainTextResponse("too many streams", 429)
