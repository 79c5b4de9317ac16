"""Pages about signing in: by account or provider, once more before irreversible steps, out, language and theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from common.errors import RefusedError, UnavailableError
from common.platform.console.answering import set_cookie
from common.platform.console.page import Page, Visit, is_local
from common.platform.console.rendering import THEMES
from common.platform.console.settings import LANGUAGES
from common.platform.console.sign_in.passkey_pages import passkey_pages
from common.platform.console.sign_in.person import Person
from common.platform.console.sign_in.sessions import Session
from common.platform.console.sign_in.setup_pages import setup_pages
from common.platform.console.sign_in.starting import start

if TYPE_CHECKING:
    from common.platform.console.app import Console

_PROVIDER_SECONDS = 600
_YEAR_SECONDS = 31_536_000


def sign_in_pages(console: Console) -> list[Page]:
    """The pages about signing in of a console."""
    everybody = frozenset(console.side.roles)
    pages = [
        Page("/sign-in", _form, is_public=True),
        Page("/sign-out", _sign_out, roles=everybody, method="POST"),
        Page("/sign-in/again", _again, roles=everybody),
        Page("/preferences", _prefer, is_public=True, method="POST"),
    ]
    if console.accounts is not None:
        pages += [
            Page("/sign-in", _sign_in, is_public=True, method="POST"),
            Page("/sign-in/again", _sign_in_again, roles=everybody, method="POST"),
            *setup_pages(console),
            *passkey_pages(console),
        ]
    if console.provider is not None:
        pages += [
            Page("/sign-in/provider", _to_provider, is_public=True),
            Page("/sign-in/provider/again", _to_provider_again, roles=everybody),
            Page("/sign-in/provider/answer", _from_provider, is_public=True),
        ]

    return pages


def _signed_in(visit: Visit, person: Person, following: str, how: str) -> Response:
    """Begin a session and go to `following`, by a page of ours.

    Browsers send no strict cookie with a redirect that another site, the provider, began.
    """
    token, target = start(visit, person, following, how)
    response = visit.render("signed_in.html.j2", target=target)
    set_cookie(response, visit.console.cookie("session"), token)

    return response


def _form(visit: Visit) -> Response:
    if visit.session is not None:
        return RedirectResponse("/", 303)
    return _show(visit)


def _show(visit: Visit, problem: str = "", status: int = 200) -> Response:
    return visit.render(
        "sign_in.html.j2",
        status,
        following=_following(visit),
        name=visit.field("name", 100),
        problem=problem,
        has_accounts=visit.console.accounts is not None,
        has_provider=visit.console.provider is not None,
        is_again=False,
    )


def _sign_in(visit: Visit) -> Response:
    person = _checked(visit)
    if person is None:
        return _show(visit, visit.text("Name, password or code is wrong, or the code was used before."), 401)
    return _signed_in(visit, person, _following(visit), "password")


def _again(visit: Visit) -> Response:
    return _show_again(visit)


def _show_again(visit: Visit, problem: str = "", status: int = 200) -> Response:
    is_local_person = visit.console.accounts is not None and visit.person.issuer == visit.console.accounts.issuer
    return visit.render(
        "sign_in.html.j2",
        status,
        following=_following(visit),
        name=visit.person.name,
        problem=problem,
        has_accounts=is_local_person,
        has_provider=not is_local_person,
        is_again=True,
    )


def _sign_in_again(visit: Visit) -> Response:
    person = _checked(visit)
    if person is None or person.key != visit.person.key:
        return _show_again(visit, visit.text("Name, password or code is wrong, or the code was used before."), 401)
    return _signed_in(visit, person, _following(visit), "password")


def _checked(visit: Visit) -> Person | None:
    """The person behind the form; each address, and each name from it, has a few failures."""
    accounts = visit.console.accounts
    attempts = visit.console.attempts
    name = visit.person.name if visit.session is not None else visit.field("name", 100)
    # By name *and* address: from elsewhere nobody can lock a person out by trying their name.
    keys = (f"address {visit.address}", f"name {visit.address} {name.casefold()}")
    if not all(attempts.has_left(key, visit.now) for key in keys):
        raise RefusedError("too many attempts: wait a minute")
    # The password keeps its white space.
    password = visit.form.get("password", "")
    person = None
    if accounts is not None and isinstance(password, str):
        person = accounts.sign_in(name, password, visit.field("code", 20), visit.now)
    if person is None:
        # Only failures count.
        for key in keys:
            attempts.allows(key, visit.now)

    return person


def _sign_out(visit: Visit) -> Response:
    person = visit.person
    if visit.session is not None:
        visit.console.sessions.end(visit.session)
    visit.console.record("signed-out", visit.now, (*person.key, person.name))
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(visit.console.cookie("session"), path="/", secure=True, httponly=True, samesite="strict")
    return response


def _to_provider(visit: Visit) -> Response:
    return _begin(visit, None)


def _to_provider_again(visit: Visit) -> Response:
    return _begin(visit, visit.session)


def _begin(visit: Visit, again: Session | None) -> Response:
    provider = visit.console.provider
    if provider is None:
        raise RefusedError("there is no identity provider")

    try:
        address, browser = provider.begin(_following(visit), visit.now, again)
    except UnavailableError as err:
        return _show(visit, visit.text(str(err)), 503)

    response = RedirectResponse(address, 303)
    # The answer comes from another site, which browsers let send lax cookies only.
    set_cookie(response, visit.console.cookie("provider"), browser, most_seconds=_PROVIDER_SECONDS, lax=True)

    return response


def _from_provider(visit: Visit) -> Response:
    provider = visit.console.provider
    if provider is None:
        raise RefusedError("there is no identity provider")
    answer = {name: value[:4000] for name, value in visit.request.query_params.items()}
    browser = visit.request.cookies.get(visit.console.cookie("provider"), "")

    try:
        person, pending = provider.finish(answer, browser, visit.now)
    except (RefusedError, UnavailableError) as err:
        return _show(visit, visit.text(str(err)), 403)

    if pending.again is not None:
        # The strict cookie of the session was not sent with the provider's answer.
        visit.console.sessions.end(pending.again)
    response = _signed_in(visit, person, pending.following, "provider")
    response.delete_cookie(visit.console.cookie("provider"), path="/", secure=True, httponly=True, samesite="lax")

    return response


def _prefer(visit: Visit) -> Response:
    came_from = visit.field("back", 1000)
    response = RedirectResponse(came_from if is_local(came_from) else "/", 303)
    for name, choices in (("language", LANGUAGES), ("theme", THEMES)):
        if visit.field(name) in choices:
            set_cookie(response, visit.console.cookie(name), visit.field(name), most_seconds=_YEAR_SECONDS)

    return response


def _following(visit: Visit) -> str:
    """The page to go to afterwards, if it is one of ours."""
    target = visit.field("next") or visit.query("next", most=1000)
    return target if is_local(target) else "/"
