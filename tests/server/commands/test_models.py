"""`fedforget-server models` on a coordinator's folder as `init` makes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import select
from typer.testing import CliRunner

from common.learning.model.checkpoint import ModelCard
from common.platform.sql import transaction
from server.campaign.context import open_house
from server.commands.models import app
from server.database import EventRow, SiteRow
from server.membership.setup import create_server
from server.registry.manifest import Metric, Provenance

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = Provenance(
    round=3,
    run=5,
    code="0.1.0",
    config="c" * 64,
    sites=("north", "south"),
    metrics=(Metric(name="test AUC of opacity at north", value=0.81, low=0.7, high=0.92, patients=40),),
)


@pytest.fixture
def federation(tmp_path: Path, card: ModelCard) -> Path:
    """Two versions, the second one descends from the first."""
    root = tmp_path / "federation"
    create_server(root, ["localhost"], NOON)
    house = open_house(root, lambda: NOON)
    for seed, parent in enumerate([None, "v0001"]):
        house.registry.publish(card.build(seed).state_dict(), card, parent=parent, campaign=None, provenance=FACTS)
    house.engine.dispose()

    return root


def run(federation: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dir", str(federation)])


def test_list_and_lineage_show_states_and_parents(federation: Path) -> None:
    listed = json.loads(run(federation, "list", "--json").stdout)
    assert [(row["version"], row["state"], row["parent"]) for row in listed] == [
        ("v0001", "superseded", None),
        ("v0002", "active", "v0001"),
    ]
    chain = json.loads(run(federation, "lineage", "v0002", "--json").stdout)
    assert [row["version"] for row in chain] == ["v0002", "v0001"]
    assert "superseded" in run(federation, "list").stdout


def test_show_has_the_record_the_figures_and_the_copies(federation: Path) -> None:
    found = json.loads(run(federation, "show", "v0002", "--json").stdout)
    assert (found["round"], found["run"], found["sites"], found["copies"]) == (3, 5, ["north", "south"], [])
    assert found["figures"][0]["low"] == 0.7
    assert len(found["weights"]) == 64
    human = run(federation, "show", "v0002").stdout
    assert "north, south" in human
    assert "0.810" in human


def test_verify_ends_with_6_and_names_the_version_when_a_byte_changed(federation: Path) -> None:
    assert run(federation, "verify").exit_code == 0
    path = federation / "models" / "v0001" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bad = run(federation, "verify", "--json")
    assert bad.exit_code == 6
    found = json.loads(bad.stdout)
    assert found["v0002"] == "whole"
    assert found["v0001"].endswith("changed since it was published")
    assert run(federation, "verify", "v0001").exit_code == 6
    assert run(federation, "verify", "v0002").exit_code == 0


def test_export_writes_a_folder_and_refuses_one_that_exists(federation: Path, tmp_path: Path) -> None:
    done = run(federation, "export", "v0002", str(tmp_path / "out"), "--json")
    assert json.loads(done.stdout)["files"] == [
        "README.md", "example.py", "manifest.json", "model.json", "model.safetensors",
        "network.py", "predict.py", "preparation.py", "preprocess.json", "vocabulary.json",
    ]  # fmt: skip
    again = run(federation, "export", "v0002", str(tmp_path / "out"))
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_an_export_is_a_delivery_until_its_recipient_says_that_the_copy_is_gone(
    federation: Path, tmp_path: Path
) -> None:
    done = run(federation, "export", "v0002", str(tmp_path / "out"), "--recipient", "University of X")
    assert "WARNING" not in done.output
    assert "WARNING" in run(federation, "export", "v0001", str(tmp_path / "first")).output
    assert run(federation, "export", "v0002", str(tmp_path / "out"), "--recipient", "nobody").exit_code == 2
    assert run(federation, "export", "v0002", str(tmp_path / "2"), "--recipient", "a\nb").exit_code == 2
    assert not (tmp_path / "2").exists()
    (row,) = json.loads(run(federation, "show", "v0002", "--json").stdout)["exports"]
    assert (row["recipient"], row["purged"]) == ("University of X", None)
    withdrawn = run(federation, "withdraw", "v0002", "--reason", "a backdoor")
    assert "tell these recipients of exports to delete theirs: University of X" in withdrawn.stdout

    assert run(federation, "acknowledge", "v0002", "nobody").exit_code == 2
    assert run(federation, "acknowledge", "v0002", "University of X").exit_code == 0
    assert json.loads(run(federation, "show", "v0002", "--json").stdout)["exports"][0]["purged"] is not None
    assert run(federation, "acknowledge", "v0002", "University of X").exit_code == 2


def test_withdraw_takes_a_version_out_of_use_and_says_who_must_delete_a_copy(federation: Path) -> None:
    house = open_house(federation, lambda: NOON)
    with transaction(house.engine) as session:
        session.add(SiteRow(name="north", state="active", node_key="", signing_key="", certificate="", enrolled=NOON))
    house.registry.deliveries.deliver("v0002", "north")
    assert run(federation, "withdraw", "v0002", "--reason", " ").exit_code == 2
    done = run(federation, "withdraw", "v0002", "--reason", "a\nbackdoor", "--json")
    assert json.loads(done.stdout) == {
        "version": "v0002", "state": "withdrawn", "was": "active", "copies": ["north"], "exported_to": [],
    }  # fmt: skip
    assert house.registry.active() is None
    assert len(house.registry.deliveries.owed("north")) == 1
    with transaction(house.engine) as session:
        details = [row.detail for row in session.scalars(select(EventRow)) if row.kind == "version-withdrawn"]
    assert details == ["v0002: a backdoor"]
    again = run(federation, "withdraw", "v0002", "--reason", "a backdoor")
    assert again.exit_code == 4
    assert run(federation, "export", "v0002", str(federation / "out")).exit_code == 4
    house.engine.dispose()


def test_a_version_that_an_open_campaign_builds_on_is_not_withdrawn(federation: Path) -> None:
    house = open_house(federation, lambda: NOON)
    terms = house.terms.model_dump(mode="json")
    number = house.store.plan("unlearning", terms, parent="v0002", due=None, reason="test")
    refused = run(federation, "withdraw", "v0002", "--reason", "a backdoor")
    assert refused.exit_code == 4
    assert f"campaign {number} is open and builds on v0002" in refused.stderr
    assert run(federation, "withdraw", "v0001", "--reason", "a backdoor").exit_code == 0
    house.engine.dispose()


def test_an_unknown_version_is_an_input_error(federation: Path) -> None:
    for command in (
        ["show", "v9"],
        ["lineage", "v9"],
        ["verify", "v9"],
        ["export", "v9", "out"],
        ["withdraw", "v9", "--reason", "x"],
    ):
        done = run(federation, *command)
        assert done.exit_code == 2
        assert "there is no version 'v9'" in done.stderr


@pytest.mark.parametrize("command", ["list", "show", "lineage", "verify", "withdraw", "export"])
def test_every_command_shows_an_example_in_its_help(command: str) -> None:
    assert f"fedforget-server models {command}" in CliRunner().invoke(app, [command, "--help"]).stdout
