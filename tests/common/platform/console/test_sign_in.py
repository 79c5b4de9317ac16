"""Signing in to a console with an account of its own: what opens it, what does not, and how a session ends."""

from __future__ import annotations

import re
from typing import Any

import pyotp
import pytest
from console_world import ORIGIN, PASSWORD, World

from common.platform.console.settings import ConsoleConfig
from common.platform.console.sign_in.events import Event


def test_the_first_account_is_made_with_a_one_time_token_and_opens_the_console(
    world: World, events: list[Event]
) -> None:
    token = world.accounts.invite(["reader"], world.clock())
    browser = world.browser()
    browser.get("/sign-in/setup")
    page = browser.post("/sign-in/setup", token=token, name="Ada Lee", password=PASSWORD, repeated=PASSWORD)
    secret = re.search(r'class="secret">([A-Z2-7 ]+)<', page)
    assert secret
    code = pyotp.TOTP(secret[1].replace(" ", "")).at(world.clock())
    browser.post("/sign-in/setup/code", status=400, code="12345")
    assert "ready" in browser.post("/sign-in/setup/code", code=code)
    world.clock.move(seconds=31)
    code = pyotp.TOTP(secret[1].replace(" ", "")).at(world.clock())
    browser.get("/sign-in")
    browser.post("/sign-in", name="ada  LEE", password=PASSWORD, code=code, next="/")
    assert "Ada Lee" in browser.get("/")
    assert [event.kind for event in events] == ["account-made", "signed-in"]
    browser = world.browser()
    browser.get("/sign-in/setup")
    assert "has been used" in browser.post(
        "/sign-in/setup", status=400, token=token, name="Eve", password=PASSWORD, repeated=PASSWORD
    )


@pytest.mark.parametrize("wrong", ["name", "password", "code", "used code", "disabled"])
def test_a_wrong_name_password_or_code_does_not_sign_in_and_is_not_told_apart(world: World, wrong: str) -> None:
    world.account("lee", ["reader"])
    browser = world.browser()
    code = world.code("lee")
    fields: dict[str, Any] = {"name": "lee", "password": PASSWORD, "code": code, "next": "/"}
    if wrong == "used code":
        world.browser()
        other = world.browser()
        other.get("/sign-in")
        other.post("/sign-in", **fields)
    elif wrong == "disabled":
        (account,) = world.accounts.listed()
        world.accounts.disable(account.subject, world.clock())
    else:
        fields[wrong] = "123456" if code != "123456" else "654321"
    browser.get("/sign-in")
    assert "Name, password or code is wrong" in browser.post("/sign-in", status=401, **fields)
    assert browser.client.get("/", follow_redirects=False).headers["location"] == "/sign-in?next=%2F"


def test_attempts_are_limited_and_come_back_with_time(world: World) -> None:
    world.account("lee", ["reader"])
    browser = world.browser()
    browser.get("/sign-in")
    codes = [browser.send("/sign-in", name="lee", password="x", code="1", next="/").status_code for _ in range(10)]
    assert codes == [401] * 8 + [409] * 2
    world.clock.move(minutes=5)
    browser.post("/sign-in", name="lee", password=PASSWORD, code=world.code("lee"), next="/")
    assert "lee" in browser.get("/")


def test_a_cookie_planted_before_sign_in_is_worth_nothing_afterwards(world: World) -> None:
    world.account("lee", ["reader"])
    victim = world.browser()
    victim.client.cookies.set(world.console.cookie("session"), "planted", domain="console.test")
    victim.get("/sign-in")
    victim.post("/sign-in", name="lee", password=PASSWORD, code=world.code("lee"), next="/")
    assert "lee" in victim.get("/")
    attacker = world.browser()
    attacker.client.cookies.set(world.console.cookie("session"), "planted", domain="console.test")
    assert attacker.client.get("/", follow_redirects=False).status_code == 303


def test_a_session_ends_by_idleness_by_age_by_signing_out_and_with_the_process(world: World) -> None:
    browser = world.signed_in("lee", "reader")
    world.clock.move(minutes=world.console.config.idle_minutes + 1)
    assert browser.client.get("/", follow_redirects=False).status_code == 303
    browser = world.signed_in("lee")
    for _ in range(40):
        world.clock.move(minutes=16)
        answer = browser.client.get("/", follow_redirects=False)
    assert answer.status_code == 303
    browser = world.signed_in("lee")
    browser.get("/")
    cookie = browser.client.cookies.get(world.console.cookie("session"))
    browser.post("/sign-out")
    browser.client.cookies.set(world.console.cookie("session"), cookie or "", domain="console.test")
    assert browser.client.get("/", follow_redirects=False).status_code == 303


def test_cookies_are_for_this_host_over_tls_and_out_of_reach_of_scripts(world: World) -> None:
    answer = world.browser().client.get("/sign-in")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-session-")
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "Path=/", "SameSite=strict", "Secure"}


def test_an_irreversible_step_asks_for_a_fresh_sign_in_and_returns_to_the_page(world: World) -> None:
    browser = world.signed_in("lee", "writer")
    browser.get("/")
    assert browser.post("/final") == "1 written"
    browser.get("/")
    world.clock.move(minutes=world.console.config.fresh_minutes + 1)
    browser.client.headers["referer"] = f"{ORIGIN}/?text=here"
    answer = browser.client.post(
        "/final", data={"csrf": browser.token}, headers={"origin": ORIGIN}, follow_redirects=False
    )
    assert answer.headers["location"] == "/sign-in/again?next=%2F%3Ftext%3Dhere"
    browser.get(answer.headers["location"])
    page = browser.post("/sign-in/again", password=PASSWORD, code=world.code("lee"), next="/?text=here")
    assert 'content="0;url=/?text=here"' in page
    browser.get("/")
    assert browser.post("/final") == "2 written"


def test_a_fresh_sign_in_as_somebody_else_is_refused(world: World) -> None:
    world.account("eve", ["writer"])
    browser = world.signed_in("lee", "writer")
    browser.get("/sign-in/again")
    browser.post("/sign-in/again", status=401, name="eve", password=PASSWORD, code=world.code("eve"))


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test/",
        "\\\\evil.test",
        "javascript:alert(1)",
        "/a\r\nset-cookie: a=b",
    ],
)
def test_sign_in_never_leads_to_another_host(world: World, target: str) -> None:
    world.account("lee", ["reader"])
    browser = world.browser()
    browser.client.get("/sign-in", params={"next": target})
    browser.get("/sign-in")
    page = browser.post("/sign-in", name="lee", password=PASSWORD, code=world.code("lee"), next=target)
    assert 'content="0;url=/"' in page
    browser.get("/")
    answer = browser.client.post(
        "/preferences",
        data={"csrf": browser.token, "back": target, "theme": "dark"},
        headers={"origin": ORIGIN},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/"


def test_the_settings_refuse_what_would_be_unsafe() -> None:
    assert not ConsoleConfig().enabled
    assert ConsoleConfig().host == "127.0.0.1"
