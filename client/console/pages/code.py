"""Code and bounds: which app bundles may run here, and what the coordinator may ask for."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import AUDITOR, IT, Desk
from client.membership.approval import approve, withdraw
from common.platform.console.page import Page, Visit
from common.protocol.bundle import installed_bundle, parse_digest

_READERS = frozenset({IT, AUDITOR})


def pages(desk: Desk) -> list[Page]:
    """The pages of IT. A bundle has all rights of the site's client, so approving one asks for a fresh sign-in."""

    def show(visit: Visit) -> Response:
        settings = desk.folder.settings()
        return visit.render(
            "code.html.j2",
            installed=installed_bundle().digest,
            approved=[parse_digest(digest) for digest in settings.approved_bundles],
            bounds=settings.bounds.model_dump(),
            may_decide=visit.may({IT}),
        )

    def change(visit: Visit) -> Response:
        digest = parse_digest(visit.field("digest", 100))
        is_approval = visit.field("step") == "approve"
        is_changed = (approve if is_approval else withdraw)(desk.folder.settings_file, digest)
        if is_changed:
            kind = "bundle-approved" if is_approval else "bundle-withdrawn"
            person = visit.person
            visit.console.record(kind, visit.now, (*person.key, person.name), bundle=digest)
        notice = "The list of bundles has changed." if is_changed else "Nothing has changed: it was already so."
        return visit.redirect("/code", visit.text(notice))

    return [
        Page("/code", show, roles=_READERS),
        Page("/code", change, roles=frozenset({IT}), method="POST", is_fresh=True),
    ]
