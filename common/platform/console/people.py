"""People: accounts of the console itself, their roles, invitations. Nobody changes their own account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response

from common.errors import InputError, RefusedError
from common.platform.console.page import Page, Visit
from common.platform.console.settings import OpenIdConfig
from common.platform.console.sign_in.accounts import Account, Accounts


@dataclass(frozen=True, slots=True)
class People:
    """Whose accounts a console shows.

    Attributes:
        accounts: of the console itself; None: only the provider's people sign in.
        roles: names of the roles, with a label each.
        readers: roles that may see the list.
        managers: roles that may change it.
    """

    accounts: Accounts | None
    openid: OpenIdConfig
    roles: Mapping[str, str]
    readers: frozenset[str]
    managers: frozenset[str]


def people_pages(people: People) -> list[Page]:
    """The list, and what managers can change; each change asks for a fresh sign-in and is on record."""

    def show(visit: Visit) -> Response:
        accounts = [] if people.accounts is None else people.accounts.listed()
        return visit.render(
            "people.html.j2",
            accounts=accounts,
            has_accounts=people.accounts is not None,
            groups=people.openid.groups,
            issuer=people.openid.issuer,
            roles=people.roles,
            may_change=visit.may(people.managers),
            own=visit.person.subject,
            token="",
        )

    def invite(visit: Visit, accounts: Accounts) -> Response:
        roles = _roles(visit, people)
        token = accounts.invite(roles, visit.now)
        _record(visit, "account-invited", roles=" ".join(sorted(roles)))
        return _token(visit, people, token, roles)

    def set_roles(visit: Visit, accounts: Accounts, account: Account) -> Response:
        roles = _roles(visit, people)
        accounts.set_roles(account.subject, roles)
        _record(visit, "roles-changed", account=account.subject, roles=" ".join(sorted(roles)))
        # A session carries the roles that it began with.
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
            "token.html.j2",
            token=token,
            roles=[people.roles[role] for role in sorted(account.roles)],
            name=account.name,
        )

    def of_account(handler: Callable[[Visit, Accounts, Account], Response]) -> Callable[[Visit], Response]:
        def handle(visit: Visit) -> Response:
            accounts = _accounts(people)
            subject = visit.path_value("subject")
            account = next((one for one in accounts.listed() if one.subject == subject), None)
            if account is None:
                raise InputError("There is no such account.")
            if (accounts.issuer, subject) == visit.person.key:
                raise RefusedError("you cannot change your own account: ask another person who manages accounts")
            return handler(visit, accounts, account)

        return handle

    changes = (("roles", set_roles), ("disable", disable), ("renew", renew))

    def invited(visit: Visit) -> Response:
        return invite(visit, _accounts(people))

    managers = people.managers
    return [
        Page("/people", show, roles=people.readers),
        Page("/people/invite", invited, roles=managers, method="POST", is_fresh=True),
        *(
            Page(f"/people/{{subject}}/{name}", of_account(handler), roles=managers, method="POST", is_fresh=True)
            for name, handler in changes
        ),
    ]


def _token(visit: Visit, people: People, token: str, roles: frozenset[str], name: str = "") -> Response:
    """The page that shows a one-time token, once."""
    return visit.render("token.html.j2", token=token, roles=[people.roles[role] for role in sorted(roles)], name=name)


def _accounts(people: People) -> Accounts:
    if people.accounts is None:
        raise RefusedError("this console has no accounts of its own")
    return people.accounts


def _roles(visit: Visit, people: People) -> frozenset[str]:
    roles = frozenset(visit.fields("role"))
    if not roles or not roles <= people.roles.keys():
        raise InputError("Choose at least one role.")
    return roles


def _record(visit: Visit, kind: str, **details: str) -> None:
    person = visit.person
    visit.console.record(kind, visit.now, (*person.key, person.name), **details)
