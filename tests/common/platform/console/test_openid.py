"""Signing in by an identity provider, and everything that must not sign anybody in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from console_world import ORIGIN, Browser, World, console_world
from openid_provider import CLIENT, SECRET, Provider, openid_provider

from common.errors import ConfigError
from common.files import write_private
from common.platform.console.app import Side
from common.platform.console.page import Page
from common.platform.console.settings import ConsoleConfig, OpenIdConfig
from common.platform.console.sign_in.openid import open_id

ROLES = frozenset({"reader", "writer"})


@pytest.fixture
def provider() -> Iterator[Provider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def world(tmp_path: Path, provider: Provider) -> Iterator[World]:
    write_private(tmp_path / "secret", SECRET.encode())
    groups = {"office": "reader", "chiefs": "writer"}
    config = OpenIdConfig(issuer=provider.issuer, client_id=CLIENT, client_secret_file="secret", groups=groups)
    client = open_id(config, tmp_path, ORIGIN, ROLES)
    page = Page("/", lambda visit: visit.render("problem.html.j2", problem="here", remedy=""), roles=ROLES)
    side = Side(
        "North", "common.platform.console", {role: role for role in ROLES}, [page], [], lambda: 0, lambda _: None
    )
    settings = ConsoleConfig(public_url=ORIGIN, openid=config)
    with console_world(tmp_path / "accounts", side, settings, client) as world:
        yield world


def begun(browser: Browser, path: str = "/sign-in/provider?next=/account") -> str:
    """Begin a sign-in; returns the provider's address."""
    answer = browser.client.get(path, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def finished(browser: Browser, provider: Provider, address: str, **more: str) -> tuple[int, str]:
    """Follow the provider back."""
    answer = browser.client.get(provider.authorize(address, **more))
    return answer.status_code, answer.text


def is_in(browser: Browser) -> bool:
    return browser.client.get("/", follow_redirects=False).status_code == 200


def test_a_person_of_a_known_group_signs_in_with_its_role(world: World, provider: Provider) -> None:
    browser = world.browser()
    status, page = finished(browser, provider, begun(browser))
    assert status == 200
    assert 'content="0;url=/account"' in page
    page = browser.get("/account")
    assert "Ada Lee" in page
    assert "reader" in page
    assert "writer" not in page


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": "http://127.0.0.1:1"}, ""),
        ({"aud": "another client"}, ""),
        ({"aud": [CLIENT, "another"]}, ""),
        ({"aud": [CLIENT, "another"], "azp": "another"}, ""),
        ({"azp": "another"}, ""),
        ({"nonce": "another"}, ""),
        ({"nonce": None}, ""),
        ({"exp": 1}, ""),
        ({"exp": None}, ""),
        ({"iat": 9_999_999_999}, ""),
        ({"sub": None}, ""),
        ({"groups": ["strangers"]}, ""),
        ({"groups": None}, ""),
        ({}, "key"),
        ({}, "none"),
        ({}, "hmac"),
    ],
)
def test_a_token_with_a_wrong_claim_or_signature_signs_nobody_in(
    world: World, provider: Provider, claims: dict[str, object], fault: str
) -> None:
    provider.claims = claims
    provider.fault = fault
    browser = world.browser()
    status, _ = finished(browser, provider, begun(browser))
    assert status == 403
    assert not is_in(browser)


def test_an_answer_counts_once_and_only_in_the_browser_that_began(world: World, provider: Provider) -> None:
    victim = world.browser()
    attacker = world.browser()
    answer = provider.authorize(begun(attacker))
    assert victim.client.get(answer).status_code == 403
    assert not is_in(victim)
    assert attacker.client.get(answer).status_code == 403
    browser = world.browser()
    answer = provider.authorize(begun(browser))
    assert browser.client.get(answer).status_code == 200
    assert browser.client.get(answer).status_code == 403


def test_a_code_of_another_sign_in_is_refused_by_its_verifier(world: World, provider: Provider) -> None:
    browser = world.browser()
    stolen = parse_qs(urlsplit(provider.authorize(begun(world.browser()))).query)["code"][0]
    status, _ = finished(browser, provider, begun(browser), code=stolen)
    assert status == 403
    assert not is_in(browser)


@pytest.mark.parametrize(
    "more", [{"iss": "http://127.0.0.1:1"}, {"error": "access_denied"}, {"state": "made-up"}, {"code": ""}]
)
def test_an_answer_that_is_not_ours_is_refused(world: World, provider: Provider, more: dict[str, str]) -> None:
    browser = world.browser()
    status, _ = finished(browser, provider, begun(browser), **more)
    assert status == 403
    assert not is_in(browser)


def test_an_old_answer_is_refused(world: World, provider: Provider) -> None:
    browser = world.browser()
    address = begun(browser)
    world.clock.move(minutes=11)
    status, _ = finished(browser, provider, address)
    assert status == 403


def test_a_fresh_sign_in_must_be_fresh_and_of_the_same_person(world: World, provider: Provider) -> None:
    browser = world.browser()
    finished(browser, provider, begun(browser))
    address = begun(browser, "/sign-in/provider/again?next=/account")
    assert parse_qs(urlsplit(address).query)["prompt"] == ["login"]
    provider.claims = {"auth_time": int(world.clock().timestamp()) - 3600}
    assert finished(browser, provider, address)[0] == 403
    provider.claims = {"sub": "s-2"}
    assert finished(browser, provider, begun(browser, "/sign-in/provider/again"))[0] == 403
    provider.claims = {}
    assert finished(browser, provider, begun(browser, "/sign-in/provider/again?next=/account"))[0] == 200
    assert is_in(browser)


def test_another_host_is_never_the_page_afterwards(world: World, provider: Provider) -> None:
    browser = world.browser()
    _, page = finished(browser, provider, begun(browser, "/sign-in/provider?next=https://evil.test/"))
    assert 'content="0;url=/"' in page


@pytest.mark.parametrize(
    "change",
    [{"issuer": "http://login.example.org"}, {"client_id": ""}, {"groups": {"office": "admin"}}, {"ca": "missing.pem"}],
)
def test_settings_that_would_be_unsafe_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    config = OpenIdConfig(**{"issuer": "https://login.example.org", "client_id": "x", **change})  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        open_id(config, tmp_path, ORIGIN, ROLES)
