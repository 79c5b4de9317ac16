"""A hospital with twelve made-up patients, a second person for approvals, and its console."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyotp
import pytest
from argon2 import PasswordHasher
from console_browser import PASSWORD, Served, chromium, start
from console_world import ORIGIN, Clock, World
from console_world import Browser as PlainBrowser
from playwright.sync_api import Browser
from sqlalchemy import update
from typer.testing import CliRunner

from client.cli import app
from client.console.service import issuer_of, open_console
from client.membership.setup import SiteRequest, create_site
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.platform.console.sign_in.account_tables import AccountRow
from common.platform.console.sign_in.accounts import open_accounts
from common.platform.sql import transaction

PATIENTS = {f"MRN-100{n}": "train" if n < 8 else "test" for n in range(10)}
SECRET = "MRN-100"


@dataclass(slots=True)
class SiteWorld(World):
    """A running console of a hospital."""

    folder: SiteFolder = field(kw_only=True)
    ledger: Ledger = field(kw_only=True)

    def register(self, browser: PlainBrowser, *patients: str, **fields: str) -> str:
        """Register a revocation by the pages and return its receipt."""
        page = self.look(browser, *patients, **fields)
        assert "Confirm: stop use" in page
        return self.confirm(browser)

    def rename_all(self, name: str) -> None:
        """Show all accounts under one name; issuer and subject stay."""
        with transaction(self.accounts._engine) as session:
            session.execute(update(AccountRow).values(name=name))

    def look(self, browser: PlainBrowser, *patients: str, **fields: str) -> str:
        """Fill in the form; returns the page that says what it will mean."""
        browser.get("/register")
        day = self.clock().date().isoformat()
        usual: dict[str, Any] = {
            "kind": "withdrawal",
            "scope": "all",
            "requester": "patient",
            "identity_check": "signed letter",
        }
        return browser.post("/register", patients="\n".join(patients), received=day, **{**usual, **fields})

    def confirm(self, browser: PlainBrowser, **fields: str) -> str:
        """Confirm, and return the receipt."""
        number = browser.page.split('name="draft" value="')[1].split('"')[0]
        answer = browser.send("/register/confirm", draft=number, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.url.path.startswith("/cases/"), answer.url
        browser.page = answer.text
        return answer.url.path.rpartition("/")[2]


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    root = tmp_path / "north"
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": PATIENTS}))
    settings = ["two_person_approval", "true", "console.enabled", "true", "console.public_url", ORIGIN]
    result = CliRunner().invoke(app, ["settings", "set", *settings, "--dir", str(root)])
    assert result.exit_code == 0, result.output

    return SiteFolder(root)


@pytest.fixture
def site(folder: SiteFolder) -> Iterator[SiteWorld]:
    clock = Clock()
    with open_console(folder, clock, PasswordHasher(time_cost=1, memory_cost=64)) as console:
        assert console.accounts is not None
        with open_ledger(folder, clock) as ledger:
            yield SiteWorld(console, clock, console.accounts, folder=folder, ledger=ledger)


@pytest.fixture
def served(folder: SiteFolder) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["settings", "set", "console.port", str(port), "console.fresh_minutes", "30", "--dir", str(folder.root)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (
        CliRunner().invoke(app, ["settings", "unset", "console.public_url", "--dir", str(folder.root)]).exit_code == 0
    )
    secret = account(folder, "Ada Lee", ["steward", "approver", "auditor", "it"])
    served = Served(folder.root, f"http://127.0.0.1:{port}", start("client.console", folder.root, port), secret)
    try:
        yield served
    finally:
        served.process.terminate()
        served.process.wait(60)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def approver(served: Served) -> Served:
    """A second person of the same console, who only approves."""
    secret = account(SiteFolder(served.root), "Ben Ott", ["approver"])
    return Served(served.root, served.address, served.process, secret, "Ben Ott")


def account(folder: SiteFolder, name: str, roles: list[str]) -> str:
    """Make an account; returns the secret of its codes."""
    secret = pyotp.random_base32()
    with open_accounts(folder.console, issuer_of(folder), PasswordHasher(time_cost=1, memory_cost=64)) as accounts:
        now = datetime.fromtimestamp(0, UTC)
        invitation = accounts.invitation(accounts.invite(roles, now), now)
        assert invitation is not None
        accounts.create(invitation, name, PASSWORD, secret, now)

    return secret
