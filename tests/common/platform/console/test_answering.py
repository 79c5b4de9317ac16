"""The checks in front of every page: roles, origin, token, host, size; and the headers behind it."""

from __future__ import annotations

import pytest
from console_world import ORIGIN, World

from common.platform.console.headers import POLICY
from common.platform.console.page import Page


def test_a_page_without_roles_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="name the roles"):
        Page("/open", lambda visit: visit.render("base.html.j2"))


def test_every_page_is_closed_to_strangers_and_to_other_roles(world: World) -> None:
    stranger = world.browser().client
    reader = world.signed_in("lee", "reader")
    reader.get("/account")

    for page in world.console.pages:
        if page.is_public:
            continue
        send = {"GET": stranger.get, "POST": stranger.post}[page.method]
        answer = send(page.path, follow_redirects=False)
        assert answer.status_code in (303, 401), page.path
        assert answer.headers.get("location", "/sign-in").startswith("/sign-in"), page.path
        if "reader" not in page.roles:
            assert reader.send(page.path).status_code == 403, page.path


@pytest.mark.parametrize(
    ("headers", "has_token"),
    [
        ({"origin": "https://evil.test"}, True),
        ({"origin": "null"}, True),
        ({}, True),
        ({"origin": ORIGIN, "sec-fetch-site": "cross-site"}, True),
        ({"origin": ORIGIN}, False),
    ],
)
def test_a_form_from_elsewhere_or_without_its_token_is_refused(
    world: World, headers: dict[str, str], has_token: bool
) -> None:
    browser = world.signed_in("lee", "writer")
    browser.get("/")
    data = {"csrf": browser.token if has_token else "0" * 64, "text": "x"}
    assert browser.client.post("/write", data=data, headers=headers, follow_redirects=False).status_code == 403


def test_the_token_of_another_browser_is_refused(world: World) -> None:
    browser = world.signed_in("lee", "writer")
    other = world.signed_in("eve", "writer")
    browser.get("/")
    other.get("/")
    data = {"csrf": other.token, "text": "x"}
    assert browser.client.post("/write", data=data, headers={"origin": ORIGIN}).status_code == 403


def test_texts_from_outside_stay_texts(world: World) -> None:
    browser = world.signed_in("<script>alert(1)</script>", "writer")
    page = browser.get("/?text=<img src=x onerror=alert(1)>\u202e")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "North &lt;b&gt;" in page
    assert "\\u202e" in page
    browser.get("/")
    assert "<b>bold" not in browser.post("/write", text="<b>bold</b>")


def test_every_answer_has_the_policy_and_is_not_kept_by_caches(world: World) -> None:
    browser = world.signed_in("lee", "reader").client
    for path in ("/", "/sign-in/setup", "/nowhere", "/save", "/account"):
        headers = browser.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert POLICY.startswith("default-src 'none'")
        assert "unsafe" not in POLICY
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "max-age" in headers["strict-transport-security"]


def test_no_page_has_inline_code_or_style_or_anything_from_elsewhere(world: World) -> None:
    browser = world.signed_in("lee", "reader")
    for path in ("/", "/account", "/sign-in/again"):
        page = browser.get(path)
        for forbidden in (" style=", "<style", "onclick", "javascript:", 'src="http', 'href="http'):
            assert forbidden not in page, (path, forbidden)


def test_another_hosts_name_is_refused(world: World) -> None:
    client = world.browser().client
    assert client.get("/sign-in", headers={"host": "evil.test"}).status_code == 421


def test_a_form_or_file_that_is_too_large_is_refused_unread(world: World) -> None:
    browser = world.signed_in("lee", "writer")
    browser.get("/")
    assert browser.send("/write", text="x" * 2**19).status_code == 413
    assert browser.send("/file", files={"form": ("a.pdf", b"x" * 900)}).text == "900"
    assert browser.send("/file", files={"form": ("a.pdf", b"x" * 2**20)}).status_code in (400, 413)
    assert browser.send("/write", files={"form": ("a.pdf", b"x")}).status_code == 400


def test_static_files_are_ours_and_have_no_other_name(world: World) -> None:
    client = world.browser().client
    files = world.console.statics
    assert client.get(f"/static/{files['htmx.min.js'].digest}/htmx.min.js").status_code == 200
    for name in ("../settings.py", "..%2Fsettings.py", "LICENCES.txt", "console.css"):
        assert client.get(f"/static/0/{name}").status_code == 404


def test_requests_are_limited_by_address(world: World) -> None:
    client = world.browser().client
    codes = [client.get("/sign-in").status_code for _ in range(130)]
    assert codes[:100] == [200] * 100
    assert codes[-1] == 429
