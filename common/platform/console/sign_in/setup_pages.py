"""Making an account with a one-time token: a name and a password, then the first code of an authenticator app."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import segno
from starlette.responses import Response

from common.errors import InputError, RefusedError
from common.platform.console.page import Page, Visit
from common.platform.console.rendering import trusted
from common.platform.console.sign_in.accounts import Accounts, Invitation, code_step, new_totp, totp_address

if TYPE_CHECKING:
    from common.platform.console.app import Console

_LIFETIME = timedelta(minutes=15)
_MOST = 200
_SPENT = "This token is unknown, has been used, or has expired."


@dataclass(frozen=True, slots=True)
class _Setup:
    """Credentials that still need their first code."""

    invitation: Invitation
    name: str
    password: str = field(repr=False)
    totp_secret: str = field(repr=False)
    at: datetime


class _Setups:
    """Set-ups in progress, by the cookie of their browser."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._pending: dict[str, _Setup] = {}
        self._lock = threading.Lock()

    def form(self, visit: Visit) -> Response:
        return self._ask(visit)

    def begin(self, visit: Visit) -> Response:
        """Check the token and the password, and show the secret for codes."""
        _count(visit)
        invitation = self.accounts.invitation(visit.field("token", 200), visit.now)
        if invitation is None:
            return self._ask(visit, visit.text(_SPENT))
        password = visit.form.get("password", "")
        name = " ".join(visit.field("name", 100).split())

        try:
            if not isinstance(password, str) or password != visit.form.get("repeated"):
                raise InputError("The two passwords differ.")
            self.accounts.check_new(name, password, subject=invitation.subject)
        except InputError as err:
            return self._ask(visit, visit.text(err.problem))

        setup = _Setup(invitation, name, password, new_totp(), visit.now)
        with self._lock:
            self._pending = {key: one for key, one in self._pending.items() if visit.now - one.at < _LIFETIME}
            if len(self._pending) >= _MOST:
                raise RefusedError("too many accounts are being created at this moment: try again later")
            self._pending[visit.cookie] = setup

        return self._ask_code(visit, setup)

    def finish(self, visit: Visit) -> Response:
        """Check the first code and make the account."""
        _count(visit)
        with self._lock:
            # Kept until the account is made: a mistyped code can be corrected.
            setup = self._pending.get(visit.cookie)
        if setup is None or visit.now - setup.at > _LIFETIME:
            return self._ask(visit, visit.text("This took too long: begin again."))
        if code_step(setup.totp_secret, visit.field("code", 20), visit.now) is None:
            return self._ask_code(visit, setup, visit.text("The code is wrong. Is the clock of your device right?"))

        account = self.accounts.create(setup.invitation, setup.name, setup.password, setup.totp_secret, visit.now)
        with self._lock:
            self._pending.pop(visit.cookie, None)
        visit.console.sessions.end_of(self.accounts.issuer, account.subject)
        person = (self.accounts.issuer, account.subject, account.name)
        visit.console.record("account-made", visit.now, person, roles=" ".join(sorted(account.roles)))

        return visit.render("setup_done.html.j2", name=account.name)

    def _ask(self, visit: Visit, problem: str = "") -> Response:
        token = visit.field("token", 200)
        return visit.render(
            "setup.html.j2", 400 if problem else 200, problem=problem, token=token, name=visit.field("name", 100)
        )

    def _ask_code(self, visit: Visit, setup: _Setup, problem: str = "") -> Response:
        address = totp_address(setup.totp_secret, setup.name, f"FedForget {visit.console.side.title}")
        drawing = io.BytesIO()
        segno.make(address, error="m").save(
            drawing, kind="svg", xmldecl=False, svgns=True, scale=4, light="#ffffff", svgclass="qr", lineclass=None
        )
        return visit.render(
            "setup_code.html.j2",
            400 if problem else 200,
            problem=problem,
            drawing=trusted(drawing.getvalue().decode()),
            secret=" ".join(setup.totp_secret[at : at + 4] for at in range(0, len(setup.totp_secret), 4)),
        )


def setup_pages(console: Console) -> list[Page]:
    """The pages on which an account is made."""
    if console.accounts is None:
        return []
    setups = _Setups(console.accounts)

    return [
        Page("/sign-in/setup", setups.form, is_public=True),
        Page("/sign-in/setup", setups.begin, is_public=True, method="POST"),
        Page("/sign-in/setup/code", setups.finish, is_public=True, method="POST"),
    ]


def _count(visit: Visit) -> None:
    if not visit.console.attempts.allows(f"setup {visit.address}", visit.now):
        raise RefusedError("too many attempts: wait a minute")
