"""A hospital with twelve made-up patients, a second person for approvals, and its console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from console_world import ORIGIN, Browser, Clock, World
from sqlalchemy import update
from typer.testing import CliRunner

from client.cli import app
from client.console.service import open_console
from client.membership.setup import SiteRequest, create_site
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.platform.console.sign_in.account_tables import AccountRow
from common.platform.sql import transaction

PATIENTS = {f"MRN-100{n}": "train" if n < 8 else "test" for n in range(10)}
SECRET = "MRN-100"


@dataclass(slots=True)
class SiteWorld(World):
    """A running console of a hospital."""

    folder: SiteFolder = field(kw_only=True)
    ledger: Ledger = field(kw_only=True)

    def register(self, browser: Browser, *patients: str, **fields: str) -> str:
        """Register a revocation by the pages and return its receipt."""
        page = self.look(browser, *patients, **fields)
        assert "Confirm: stop use" in page
        return self.confirm(browser)

    def rename_all(self, name: str) -> None:
        """Show all accounts under one name; issuer and subject stay."""
        with transaction(self.accounts._engine) as session:
            session.execute(update(AccountRow).values(name=name))

    def look(self, browser: Browser, *patients: str, **fields: str) -> str:
        """Fill in the form; returns the page that says what it will mean."""
        browser.get("/register")
        day = self.clock().date().isoformat()
        usual = {"kind": "withdrawal", "scope": "all", "requester": "patient", "identity_check": "signed letter"}
        return browser.post("/register", patients="\n".join(patients), received=day, **{**usual, **fields})

    def confirm(self, browser: Browser, **fields: str) -> str:
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
