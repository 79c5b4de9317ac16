"""People: accounts of the console itself, their roles, invitations. Nobody changes their own account."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from client.console.desk import AUDITOR, IT, ROLES, Desk
from common.errors import InputError, RefusedError
from common.platform.console.page import Page, Visit
from common.platform.console.sign_in.accounts import Account, Accounts


def pages(desk: Desk) -> list[Page]:
    """The list, and what IT can change; each change asks for a fresh sign-in and is on record."""

    def show(visit: Visit) -> Response:
        accounts = [] if desk.accounts is None else desk.accounts.listed()
        return visit.render(
            "people.html.j2",
            accounts=accounts,
            has_accounts=desk.accounts is not None,
            groups=desk.settings.console.openid.groups,
            issuer=desk.settings.console.openid.issuer,
            roles=ROLES,
            may_change=visit.may({IT}),
            own=visit.person.subject,
            token="",
        )

    def invite(visit: Visit, accounts: Accounts) -> Response:
        roles = _roles(visit)
        token = accounts.invite(roles, visit.now)
        _record(visit, "account-invited", roles=" ".join(sorted(roles)))
        return _token(visit, token, roles)

    def set_roles(visit: Visit, accounts: Accounts, account: Account) -> Response:
        roles = _roles(visit)
        accounts.set_roles(account.subject, roles)
        _record(visit, "roles-changed", account=account.subject, roles=" ".join(sorted(roles)))
        visit.console.sessions.end_of(accounts.issuer, account.subject)
        return visit.redirect("/people", visit.text("The roles have changed; the person signs in again."))

    def disable(visit: Visit, accounts: Accounts, account: Account) -> Response:
        accounts.disable(account.subject, visit.now)
        _record(visit, "account-disabled", account=account.subject)
        visit.console.sessions.end_of(accounts.issuer, account.subject)
        return visit.redirect("/people", visit.text("The account is disabled."))

    def renew(visit: Visit, accounts: Accounts, account: Account) -> Response:
        token = accounts.invite(account.roles, visit.now, subject=account.subject)
        _record(visit, "account-renewed", account=account.subject)
        return visit.render(
            "token.html.j2", token=token, roles=[ROLES[role] for role in sorted(account.roles)], name=account.name
        )

    def of_account(handler: Callable[[Visit, Accounts, Account], Response]) -> Callable[[Visit], Response]:
        def handle(visit: Visit) -> Response:
            accounts = _accounts(desk)
            subject = visit.path_value("subject")
            account = next((one for one in accounts.listed() if one.subject == subject), None)
            if account is None:
                raise InputError("There is no such account.")
            if (accounts.issuer, subject) == visit.person.key:
                raise RefusedError("nobody changes their own account: ask somebody else of IT")
            return handler(visit, accounts, account)

        return handle

    it = frozenset({IT})
    changes = (("roles", set_roles), ("disable", disable), ("renew", renew))
    return [
        Page("/people", show, roles=frozenset({IT, AUDITOR})),
        Page("/people/invite", lambda visit: invite(visit, _accounts(desk)), roles=it, method="POST", is_fresh=True),
        *(
            Page(f"/people/{{subject}}/{name}", of_account(handler), roles=it, method="POST", is_fresh=True)
            for name, handler in changes
        ),
    ]


def _token(visit: Visit, token: str, roles: frozenset[str], name: str = "") -> Response:
    """The page that shows a one-time token, once."""
    return visit.render("token.html.j2", token=token, roles=[ROLES[role] for role in sorted(roles)], name=name)


def _accounts(desk: Desk) -> Accounts:
    if desk.accounts is None:
        raise RefusedError("this console has no accounts of its own")
    return desk.accounts


def _roles(visit: Visit) -> frozenset[str]:
    roles = frozenset(visit.fields("role"))
    if not roles or not roles <= ROLES.keys():
        raise InputError("Choose at least one role.")
    return roles


def _record(visit: Visit, kind: str, **details: str) -> None:
    person = visit.person
    visit.console.record(kind, visit.now, (*person.key, person.name), **details)
