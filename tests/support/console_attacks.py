"""What strangers and other roles try at every page of a console, whichever side it is of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from console_world import ORIGIN, Answer, Browser, World

from common.platform.console.headers import POLICY
from common.platform.console.page import Page

EVIL = "<img src=x onerror=\"window.ran='yes'\"><script>window.ran='yes'</script>\"'>{{7*7}}"
"""A text that runs wherever it is not escaped."""
_FROM_ELSEWHERE: tuple[dict[str, str], ...] = (
    {"origin": "https://evil.test"},
    {"origin": "null"},
    {},
    {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
)
_OUTSIDE = ("..%2f..%2fsite.toml", "%2e%2e", "..%5c..%5cserver.toml", "%2fetc%2fpasswd", "%00", "a%0d%0aset-cookie:b")


def path_of(page: Page, values: Mapping[str, object]) -> str:
    """The address of a page, with values for its parts."""
    path = page.path
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", str(value))
    assert "{" not in path, f"give a value for the parts of {path}"
    return path


def check_roles(world: World, browsers: Mapping[str, Browser], values: Mapping[str, object]) -> dict[str, set[str]]:
    """Go to every page as every role: exactly its roles are admitted, and nothing breaks; returns who was."""
    admitted: dict[str, set[str]] = {}
    for page in world.console.pages:
        if page.is_public or page.path in ("/live", "/sign-out"):
            continue
        for role, browser in browsers.items():
            world.clock.move(seconds=2)
            browser.get("/account")
            answer = _asked(page, browser, path_of(page, values))
            is_refused = answer.status_code == 403 and "Your roles do not allow this" in answer.text
            assert is_refused == (role not in page.roles), (page.method, page.path, role, answer.status_code)
            assert answer.status_code < 500, (page.method, page.path, role)
            if not is_refused:
                admitted.setdefault(f"{page.method} {page.path}", set()).add(role)

    return admitted


def _asked(page: Page, browser: Browser, path: str) -> Answer:
    if page.method == "GET":
        return browser.client.get(path)
    if page.is_api:
        return browser.client.post(path, json={"csrf": browser.token}, headers={"origin": ORIGIN})
    return browser.send(path)


def check_forms_from_elsewhere(world: World, browser: Browser, values: Mapping[str, object]) -> int:
    """Send every form from another origin, and from this one without its token: each is refused; returns how many."""
    form_count = 0
    for page in world.console.pages:
        if page.method != "POST":
            continue
        path = path_of(page, values)
        tries = [*((headers, True) for headers in _FROM_ELSEWHERE), ({"origin": ORIGIN}, False)]
        for headers, has_token in tries:
            world.clock.move(seconds=5)
            browser.get("/account")
            fields = {"csrf": browser.token if has_token else "0" * 64}
            send = partial(browser.client.post, path, headers=headers, follow_redirects=False)
            answer = send(json=fields) if page.is_api else send(data=fields)
            assert answer.status_code == 403, (path, headers, has_token, answer.status_code)
        form_count += 1

    return form_count


def check_addresses(world: World, browser: Browser) -> int:
    """Name files outside in every part of an address: nothing is found; returns how many addresses were tried."""
    address_count = 0
    for page in world.console.pages:
        if page.method != "GET" or "{" not in page.path:
            continue
        start, _, rest = page.path.partition("{")
        for outside in _OUTSIDE:
            world.clock.move(seconds=2)
            answer = browser.client.get(f"{start}{outside}{rest.partition('}')[2]}", follow_redirects=False)
            assert answer.status_code in (400, 404), (page.path, outside, answer.status_code)
            assert "set-cookie" not in answer.headers, (page.path, outside)
            assert "attachment" not in answer.headers.get("content-disposition", ""), (page.path, outside)
            address_count += 1

    return address_count


def check_headers(world: World, browser: Browser, values: Mapping[str, object]) -> int:
    """Load every page: no other site can frame it, run anything in it, or keep it; returns how many were loaded."""
    page_count = 0
    for page in world.console.pages:
        if page.method != "GET" or page.path == "/live":
            continue
        world.clock.move(seconds=2)
        answer = browser.client.get(path_of(page, values), follow_redirects=False)
        assert answer.headers["content-security-policy"] == POLICY, page.path
        assert answer.headers["x-frame-options"] == "DENY", page.path
        assert answer.headers["cache-control"] == "no-store", page.path
        assert answer.headers["x-content-type-options"] == "nosniff", page.path
        assert not answer.headers.get("location", "/").startswith(("http", "//")), page.path
        page_count += 1

    return page_count
