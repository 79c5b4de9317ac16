"""The coordinator's notices: what waits and who is gone, by name of hospital and number of campaign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from notice_servers import Servers, notice_servers, settings_of
from sqlalchemy import select
from typer.testing import CliRunner

from common.platform.sql import transaction
from server.campaign.context import open_house
from server.cli import app
from server.database import AttestationRow, ExportRow, SiteRow, VersionRow
from server.runtime.doctor import examine
from server.runtime.notices import open_notices, server_notice
from server.runtime.up import children
from server.settings import ServerFolder

NOW = datetime.now(UTC)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with notice_servers(tmp_path) as made:
        yield made


@pytest.fixture
def house(
    servers: Servers, coordinator: ServerFolder, enrol: Callable[[Path, str], Path], tmp_path: Path
) -> ServerFolder:
    """North's answer is overdue, south's due soon; west is suspended and was not heard; a campaign waits."""
    simulated = tmp_path / "simulated"
    simulated.mkdir()
    (simulated / "site.json").write_text('{"name": "site", "subsets": {}}')
    for name in ("north", "south", "west"):
        enrol(simulated, name)
    with coordinator.settings_file.open("a") as file:
        file.write(settings_of(servers, coordinator.root))

    opened = open_house(coordinator.root)
    terms = opened.terms.model_dump(mode="json")
    number = opened.store.plan("training", terms, parent=None, due=None, reason="asked for")
    with transaction(opened.engine) as session:
        for row in session.scalars(select(SiteRow)):
            row.seen = None if row.name == "west" else NOW
            row.state = "suspended" if row.name == "west" else "active"
            row.pending = 0 if row.name == "west" else 2
            row.announced = NOW - timedelta(days=20)
            row.first_due = NOW + timedelta(days=-1 if row.name == "north" else 2)
        version = VersionRow(name="v0001", state="withdrawn", manifest_digest="0" * 64, created=NOW, manifest={})
        version.state_since = NOW
        session.add(version)
        session.flush()
        session.add(AttestationRow(campaign=number, version="v0001", sites={"north": None}))
        for recipient, purged in (("University of X", None), ("University of X", None), ("Y", None), ("Z", NOW)):
            session.add(ExportRow(version="v0001", recipient=recipient, sent=NOW, purged=purged))
    opened.engine.dispose()

    return coordinator


def test_the_digest_names_hospitals_and_campaigns_that_need_somebody(house: ServerFolder) -> None:
    opened = open_house(house.root)
    digest = server_notice(opened, "digest", NOW)
    escalation = server_notice(opened, "escalation", NOW)
    opened.engine.dispose()
    assert {line.text: line.items for line in digest.lines if line.count} == {
        "Hospitals with overdue answers": ("north",),
        "Hospitals with answers due within %(days)s days": ("south",),
        "Campaigns that wait": ("1",),
        "Attestations that lack a signature": ("1",),
        "Hospitals without recent contact": ("west",),
        "Suspended hospitals": ("west",),
        "Versions out of use, of which exported copies remain": ("v0001",),
    }
    assert [line.items for line in escalation.lines] == [("north",), ("south",)]


def test_notices_are_sent_tried_and_examined(servers: Servers, house: ServerFolder) -> None:
    with open_notices(house.root) as notifier:
        assert {one.outcome for one in notifier.send_now(NOW)} == {"sent"}
    assert b"Hospitals without recent contact: 1" in servers.everything()
    result = CliRunner().invoke(app, ["notify", "send", "--dry-run", "--dir", str(house.root)])
    assert result.exit_code == 0, result.output
    assert "Campaigns that wait: 1" in result.output
    found = {check.name: check.result for check in examine(house, NOW) if check.name.startswith("notices")}
    assert set(found.values()) == {"ok"}
    assert len(found) == 6
    assert "notices" in {child.name for child in children(house, house.settings())}


def test_recipients_of_a_version_out_of_use_are_asked_for_until_each_has_said_that_its_copies_are_gone(
    house: ServerFolder,
) -> None:
    def asked_for() -> list[str]:
        return [check.detail for check in examine(house, NOW) if check.name == "copies of v0001"]

    assert asked_for() == ["2 recipients of an export must be told to delete it"]
    for recipient, left in (("University of X", 1), ("Y", 0)):
        result = CliRunner().invoke(app, ["models", "acknowledge", "v0001", recipient, "--dir", str(house.root)])
        assert result.exit_code == 0, result.output
        assert len(asked_for()) == left
    opened = open_house(house.root)
    digest = server_notice(opened, "digest", NOW)
    opened.engine.dispose()
    assert not any("exported copies" in line.text and line.count for line in digest.lines)
