"""A console for tests: a browser without JavaScript, local accounts that sign in, and a clock that can be moved."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyotp
from argon2 import PasswordHasher

from common.platform.console.app import Console, Side, console_app
from common.platform.console.settings import ConsoleConfig
from common.platform.console.sign_in.accounts import Accounts, open_accounts
from common.platform.console.sign_in.openid import OpenId

with warnings.catch_warnings():
    # Starlette names anyio's portal by an older name.
    warnings.simplefilter("ignore", DeprecationWarning)
    from starlette.testclient import TestClient


class Address(Protocol):
    """Where an answer came from."""

    @property
    def path(self) -> str: ...


class Answer(Protocol):
    """What a test reads of a response: httpx's or httpx2's, whichever Starlette's client is built on."""

    @property
    def status_code(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def content(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def url(self) -> Address: ...


ORIGIN = "https://console.test"
PASSWORD = "correct horse battery staple"
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(slots=True)
class Clock:
    """A clock that tests move."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        """Move on."""
        self.now += timedelta(**by)


@dataclass(slots=True)
class Browser:
    """A browser without JavaScript: it keeps cookies and sends the hidden token of the last page with a form."""

    client: TestClient
    page: str = ""

    def get(self, path: str, *, status: int = 200) -> str:
        """Load a page, following redirects."""
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-2000:])
        self.page = answer.text
        return self.page

    def post(self, path: str, *, status: int = 200, files: Any = None, **fields: Any) -> str:
        """Send a form as the page does, and load what it leads to."""
        answer = self.send(path, files=files, **fields)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-2000:])
        self.page = answer.text
        return self.page

    def send(self, path: str, *, files: Any = None, **fields: Any) -> Answer:
        """Send a form as the page does."""
        sent = {"csrf": self.token, **fields}
        return self.client.post(path, data=sent, files=files, headers={"origin": ORIGIN})

    @property
    def token(self) -> str:
        """The hidden token of the last page."""
        found = _CSRF.search(self.page)
        return found[1] if found else ""


@dataclass(slots=True)
class World:
    """A running console."""

    console: Console
    clock: Clock
    accounts: Accounts
    secrets: dict[str, str] = field(default_factory=dict)

    def browser(self) -> Browser:
        """A new browser."""
        return Browser(TestClient(console_app(self.console), base_url=ORIGIN))

    def account(self, name: str, roles: Sequence[str]) -> None:
        """Make an account."""
        token = self.accounts.invite(roles, self.clock())
        invitation = self.accounts.invitation(token, self.clock())
        assert invitation is not None
        self.secrets[name] = pyotp.random_base32()
        self.accounts.create(invitation, name, PASSWORD, self.secrets[name], self.clock())

    def code(self, name: str) -> str:
        """The next code of an account; the clock moves on, since each counts once."""
        self.clock.move(seconds=31)
        return pyotp.TOTP(self.secrets[name]).at(self.clock())

    def signed_in(self, name: str, *roles: str) -> Browser:
        """A browser in which somebody has signed in; with roles, their account is made first."""
        if roles:
            self.account(name, roles)
        browser = self.browser()
        browser.get("/sign-in")
        browser.post("/sign-in", name=name, password=PASSWORD, code=self.code(name), next="/")

        return browser


@contextmanager
def console_world(
    folder: Path, side: Side, config: ConsoleConfig | None = None, provider: OpenId | None = None
) -> Iterator[World]:
    """A console with accounts in `folder`, served to browsers of the tests. Hashing is fast."""
    clock = Clock()
    with open_accounts(folder, "local:test", PasswordHasher(time_cost=1, memory_cost=64)) as accounts:
        settings = config or ConsoleConfig(enabled=True, public_url=ORIGIN)
        yield World(Console(side, settings, ORIGIN, accounts, provider, clock), clock, accounts)
