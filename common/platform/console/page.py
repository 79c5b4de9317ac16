"""A page of a console: its address, who may use it, and the visit that its handler answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from common.platform.console.sign_in.person import Person
from common.platform.console.sign_in.sessions import Notice, Session

if TYPE_CHECKING:
    from common.platform.console.app import Console

Method = Literal["GET", "POST"]
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1000}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """One address and method.

    Attributes:
        path: as Starlette writes it, e.g. `/cases/{receipt}`.
        roles: who may use it; empty only with `is_public`.
        is_public: whether nobody has to sign in.
        is_fresh: whether the sign-in must be recent, e.g. before an irreversible step.
        upload_bytes: largest file that its form may send; 0: none.
        is_api: whether it answers a script with JSON, which is also the only body that it takes.
    """

    path: str
    handler: Callable[[Visit], Response]
    roles: frozenset[str] = frozenset()
    method: Method = "GET"
    is_public: bool = False
    is_fresh: bool = False
    upload_bytes: int = 0
    is_api: bool = False

    def __post_init__(self) -> None:
        # A page without roles that is not public would be open by oversight.
        if bool(self.roles) == self.is_public:
            raise ValueError(f"{self.method} {self.path}: name the roles that may use it, or make it public")


@dataclass(frozen=True, slots=True)
class NavItem:
    """An entry of the menu, shown to those whom its page admits; `count` gives a number beside it."""

    path: str
    label: str
    roles: frozenset[str]
    group: str = ""
    count: Callable[[], int] | None = None


@dataclass(slots=True)
class Visit:
    """A request that passed all checks, and what a handler needs to answer it.

    Attributes:
        cookie: value of the session cookie; a new one if the browser had none.
        form: fields of the form; empty for GET.
        address: of the browser, or of the nearest proxy that is not trusted.
    """

    request: Request
    console: Console
    session: Session | None
    cookie: str
    form: FormData
    body: Mapping[str, Any]
    address: str
    language: str
    now: datetime

    @property
    def person(self) -> Person:
        """The person who is signed in; only for pages that are not public."""
        if self.session is None:
            raise RuntimeError("a public page has no person")
        return self.session.person

    @property
    def csrf(self) -> str:
        """The token that each form of this browser must send back."""
        return self.console.csrf_of(self.cookie)

    @property
    def theme(self) -> str:
        """The theme that this browser has chosen; `auto`: that of the device."""
        theme = self.request.cookies.get(self.console.cookie("theme"), "auto")
        return theme if theme in ("light", "dark") else "auto"

    @property
    def notices(self) -> list[Notice]:
        """What the person has not been told yet; it is told once."""
        if self.session is None:
            return []
        notices = self.session.notices
        self.session.notices = []
        return notices

    def may(self, roles: Collection[str]) -> bool:
        """Whether the person has one of these roles."""
        return self.session is not None and not self.session.person.roles.isdisjoint(roles)

    def path_value(self, name: str) -> str:
        """A part of the address."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "", most: int = 200) -> str:
        """A parameter of the address, cut to `most` characters."""
        return self.request.query_params.get(name, default)[:most]

    def field(self, name: str, most: int = 1000) -> str:
        """A field of the form without white space at its ends; empty if it is missing, cut to `most` characters."""
        value = self.form.get(name, "")
        return value.strip()[:most] if isinstance(value, str) else ""

    def fields(self, name: str) -> list[str]:
        """All values of a field, e.g. of check boxes."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def file(self, name: str) -> bytes:
        """The content of an uploaded file; empty if none was chosen. Its name is never used."""
        value = self.form.get(name)
        return value.file.read() if isinstance(value, UploadFile) else b""

    def text(self, message: str, **values: object) -> str:
        """A message in the language of the visit; `%(name)s` stands for a value."""
        return self.console.languages.text(self.language, message, **values)

    def texts(self, one: str, many: str, number: int) -> str:
        """A message for one, or for many; `%(num)s` stands for the number."""
        return self.console.languages.texts(self.language, one, many, number)

    def render(self, template: str, status: int = 200, **values: object) -> HTMLResponse:
        """A page from a template."""
        return HTMLResponse(self.console.render(self, template, values), status)

    def notify(self, text: str, kind: str = "done") -> None:
        """Say something on the next page."""
        if self.session is not None:
            self.session.notices.append(Notice(text, kind))

    def redirect(self, path: str, notice: str = "", kind: str = "done") -> RedirectResponse:
        """Go to another page of the console, with a notice there."""
        if notice:
            self.notify(notice, kind)
        return RedirectResponse(path if is_local(path) else "/", 303)


def is_local(path: str) -> bool:
    """Whether a text can only lead to this console: no host, no scheme, no backslash."""
    return _LOCAL_PATH.fullmatch(path) is not None


def download(content: bytes, name: str, media_type: str) -> Response:
    """A file to save; `name` is ours and never comes from outside."""
    return Response(content, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})
