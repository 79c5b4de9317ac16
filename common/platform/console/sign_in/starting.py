"""How a session begins: always under a new cookie, and always on record."""

from __future__ import annotations

from common.platform.console.page import Visit, is_local
from common.platform.console.sign_in.person import Person


def start(visit: Visit, person: Person, following: str, how: str) -> tuple[str, str]:
    """Begin a session; returns its cookie and the page to go to.

    A cookie that the browser had before, also one that somebody else has planted, is worth nothing afterwards.
    """
    console = visit.console
    # First on record: without a record nobody signs in.
    console.record("signed-in", visit.now, (*person.key, person.name), how=how)
    if visit.session is not None:
        console.sessions.end(visit.session)
    token = console.sessions.begin(person, visit.now)
    is_page = is_local(following) and not following.startswith("/sign-in")

    return token, following if is_page else "/"
