"""A console of two roles and a few pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from console_world import World, console_world
from starlette.responses import PlainTextResponse

from common.platform.console.app import Side
from common.platform.console.page import NavItem, Page, Visit, download
from common.platform.console.sign_in.events import Event

BOTH = frozenset({"reader", "writer"})


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def world(tmp_path: Path, events: list[Event]) -> Iterator[World]:
    written: list[tuple[str, str]] = []

    def write(visit: Visit) -> PlainTextResponse:
        written.append(visit.person.key)
        return PlainTextResponse(f"{len(written)} written")

    pages = [
        Page("/", lambda visit: visit.render("problem.html.j2", problem=visit.query("text"), remedy=""), roles=BOTH),
        Page(
            "/write", lambda visit: visit.redirect("/", visit.field("text")), roles=frozenset({"writer"}), method="POST"
        ),
        Page(
            "/final",
            write,
            roles=frozenset({"writer"}),
            method="POST",
            is_fresh=True,
        ),
        Page(
            "/file",
            lambda visit: PlainTextResponse(str(len(visit.file("form")))),
            roles=BOTH,
            method="POST",
            upload_bytes=1000,
        ),
        Page("/save", lambda _: download(b"abc", "a.txt", "text/plain"), roles=BOTH),
    ]
    menu = [NavItem("/", "First", BOTH), NavItem("/write", "Write", frozenset({"writer"}))]
    roles = {"reader": "Reader", "writer": "Writer"}
    side = Side("North <b>", "common.platform.console", roles, pages, menu, lambda: 0, events.append)

    with console_world(tmp_path / "accounts", side) as world:
        yield world
