"""Versions on a real folder and a real SQLite file, also when the process dies or the disk is full."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import OperationalError
from torch import Tensor

from common.errors import EvidenceError, InputError, OutputError, RefusedError
from common.learning.model.checkpoint import ModelCard, load_checkpoint, state_digest
from common.platform.sql import open_database, transaction
from server.database import CampaignRow, EventRow, SiteRow, migrate
from server.registry.manifest import Metric, Provenance
from server.registry.registry import Registry
from server.registry.versions import Version

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = Provenance(
    round=7,
    run=2**63 + 5,
    code="0.1.0",
    config="c" * 64,
    sites=("north", "south"),
    metrics=(
        Metric(name="test AUC of opacity at north", value=0.81, low=0.7, high=0.92, patients=40),
        Metric(name="membership AUC, fused", value=None, missing="nobody was forgotten"),
    ),
)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'server.db'}")
    migrate(engine)

    with transaction(engine) as session:
        for name in ("north", "south"):
            session.add(SiteRow(name=name, state="active", node_key="", signing_key="", certificate="", enrolled=NOON))
        session.add(
            CampaignRow(number=1, kind="unlearning", state="published", created=NOON, changed=NOON, settings={})
        )

    yield engine
    engine.dispose()


@pytest.fixture
def registry(tmp_path: Path, engine: Engine, clock: Clock) -> Registry:
    return Registry(tmp_path / "models", engine, clock)


@pytest.fixture
def publish(registry: Registry, card: ModelCard) -> Callable[..., Version]:
    def make(seed: int, parent: str | None = None, campaign: int | None = None) -> Version:
        state = card.build(seed).state_dict()
        return registry.publish(state, card, parent=parent, campaign=campaign, provenance=FACTS)

    return make


Publish = Callable[..., Version]


def states(registry: Registry) -> dict[str, str]:
    return {version.name: version.state for version in registry.versions()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_published_version_is_the_active_one_and_loads_bit_for_bit(
    registry: Registry, publish: Publish, card: ModelCard
) -> None:
    assert registry.active() is None
    first = publish(0)
    second = publish(1, parent=first.name)
    assert (first.name, second.name) == ("v0001", "v0002")
    assert registry.active() == second
    assert states(registry) == {"v0001": "superseded", "v0002": "active"}
    assert same(registry.load("v0002"), card.build(1).state_dict())
    assert second.weights == state_digest(card.build(1).state_dict())
    assert second.manifest.provenance == FACTS
    assert registry.card("v0001") == card


def test_the_lineage_leads_back_to_the_first_and_a_retrained_model_has_none(
    registry: Registry, publish: Publish
) -> None:
    publish(0), publish(1, parent="v0001"), publish(2)
    assert [v.name for v in registry.lineage("v0002")] == ["v0002", "v0001"]
    assert [v.name for v in registry.lineage("v0003")] == ["v0003"]
    with pytest.raises(InputError, match="no version 'v0009'"):
        registry.lineage("v0009")
    with pytest.raises(InputError, match="no version 'v0009'"):
        publish(3, parent="v0009")
    assert len(registry.versions()) == 3


def test_a_campaign_that_publishes_again_after_a_restart_gets_the_version_it_had(
    registry: Registry, publish: Publish
) -> None:
    first = publish(0, campaign=1)
    assert publish(0, campaign=1) == first
    assert publish(1, parent=first.name, campaign=1).name == "v0002"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "manifest.json"])
def test_one_changed_byte_in_any_file_is_found(registry: Registry, publish: Publish, name: str) -> None:
    publish(0)
    path = registry.folder / "v0001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EvidenceError, match=rf"{name}: changed since"):
        registry.load("v0001")
    with pytest.raises(EvidenceError, match=rf"{name}: changed since"):
        registry.export("v0001", registry.folder.parent / "out")


def test_a_missing_or_foreign_file_is_found(registry: Registry, publish: Publish) -> None:
    publish(0)
    (registry.folder / "v0001" / "extra.bin").write_bytes(b"x")
    with pytest.raises(EvidenceError, match=r"extra\.bin: does not belong"):
        registry.verify("v0001")
    (registry.folder / "v0001" / "extra.bin").unlink()
    (registry.folder / "v0001" / "model.json").unlink()
    with pytest.raises(EvidenceError, match=r"model\.json: is missing"):
        registry.verify("v0001")


def test_versions_that_saw_a_revoked_patient_never_come_back(registry: Registry, publish: Publish) -> None:
    publish(0), publish(1, parent="v0001"), publish(2, parent="v0002")
    registry.quarantine([v.name for v in registry.lineage("v0002")], "campaign 1")
    registry.quarantine(["v0001", "v0002"], "campaign 1")
    assert states(registry) == {"v0001": "quarantined", "v0002": "quarantined", "v0003": "active"}

    for refused in (
        lambda: registry.deliveries.deliver("v0001", "north"),
        lambda: registry.withdraw("v0001", "late"),
        lambda: registry.export("v0001", registry.folder.parent / "out"),
    ):
        with pytest.raises(RefusedError, match="v0001 is quarantined"):
            refused()

    assert not (registry.folder.parent / "out").exists()
    with transaction(registry.engine) as session:
        details = session.scalars(select(EventRow.detail).where(EventRow.kind == "version-quarantined")).all()
    assert details == ["v0001: campaign 1", "v0002: campaign 1"]


def test_a_withdrawn_version_leaves_none_active_and_can_still_be_quarantined(
    registry: Registry, publish: Publish
) -> None:
    publish(0)
    registry.withdraw("v0001", "undecided before the due date")
    assert registry.active() is None
    with pytest.raises(RefusedError, match="is withdrawn and cannot become withdrawn"):
        registry.withdraw("v0001", "again")
    registry.quarantine(["v0001"], "campaign 1")
    assert states(registry) == {"v0001": "quarantined"}
    assert publish(1).state == "active"


def test_quarantine_of_an_unknown_version_changes_nothing(registry: Registry, publish: Publish) -> None:
    publish(0), publish(1)
    with pytest.raises(InputError):
        registry.quarantine(["v0001", "v0099"], "campaign 1")
    assert states(registry) == {"v0001": "superseded", "v0002": "active"}


def test_a_site_owes_what_it_got_and_has_not_said_to_be_gone(registry: Registry, publish: Publish) -> None:
    first = publish(0)
    second = publish(1, parent="v0001")
    registry.deliveries.deliver("v0001", "north")
    registry.deliveries.deliver("v0001", "south")
    registry.deliveries.deliver("v0002", "north")
    assert registry.deliveries.owed("north") == ()
    registry.quarantine(["v0001"], "campaign 1")
    assert registry.deliveries.owed("north") == registry.deliveries.owed("south") == (first.weights,)
    registry.deliveries.purged("north", [first.weights, second.weights, "unknown"])
    assert registry.deliveries.owed("north") == ()
    assert registry.deliveries.owed("south") == (first.weights,)
    assert [(row.site, row.purged) for row in registry.deliveries.recipients("v0001")] == [
        ("north", NOON),
        ("south", None),
    ]
    # The copy of a version that is in use is not gone because a site says so beforehand.
    assert [row.purged for row in registry.deliveries.recipients("v0002")] == [None]


def test_a_copy_that_was_said_to_be_gone_and_is_there_again_is_owed_again(
    registry: Registry, publish: Publish, engine: Engine
) -> None:
    first = publish(0)
    second = publish(1, parent="v0001")
    registry.deliveries.deliver("v0001", "north")
    registry.quarantine(["v0001"], "campaign 1")
    registry.deliveries.purged("north", [first.weights])
    registry.deliveries.holds("north", [second.weights])
    assert registry.deliveries.owed("north") == ()
    registry.deliveries.holds("north", [first.weights])
    assert registry.deliveries.owed("north") == (first.weights,)
    with transaction(engine) as session:
        told = [(event.kind, event.detail) for event in session.scalars(select(EventRow)) if event.site == "north"]
    assert told == [("purged", "v0001"), ("held-again", "v0001")]


def test_weights_in_use_under_another_name_are_not_owed(registry: Registry, publish: Publish) -> None:
    publish(0), publish(0, parent="v0001")
    registry.deliveries.deliver("v0001", "north")
    registry.quarantine(["v0001"], "campaign 1")
    assert registry.deliveries.owed("north") == ()


def test_old_weights_go_after_their_time_and_the_record_stays(
    registry: Registry, publish: Publish, clock: Clock
) -> None:
    publish(0), publish(1, parent="v0001"), publish(2, parent="v0002")
    clock.now = NOON + timedelta(days=10)
    registry.quarantine(["v0001", "v0002"], "campaign 1")
    assert registry.collect(NOON + timedelta(days=39), 30) == ()
    assert registry.collect(NOON + timedelta(days=40), 30) == ("v0001", "v0002")
    assert registry.collect(NOON + timedelta(days=41), 30) == ()
    assert [path.name for path in registry.folder.iterdir()] == ["v0003"]
    assert registry.get("v0001").weights_deleted == NOON + timedelta(days=40)
    assert registry.get("v0001").manifest.provenance == FACTS
    with pytest.raises(InputError, match="were deleted on 2026-04-10"):
        registry.load("v0001")
    assert registry.recover().missing == ()
    assert publish(3).name == "v0004"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_version_before_active_and_no_trace(registry: Registry, publish: Publish) -> None:
    publish(0)
    with files_of_at_most(4096), pytest.raises(OutputError, match="free space"):
        publish(1, parent="v0001")
    assert states(registry) == {"v0001": "active"}
    assert [path.name for path in registry.folder.iterdir()] == ["v0001"]
    assert publish(1, parent="v0001").name == "v0002"


DYING = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from sqlalchemy import event
from common.learning.model.checkpoint import ModelCard
from common.platform.sql import open_database
from server.registry.manifest import Provenance
from server.registry.registry import Registry

root = Path(sys.argv[1])
card = ModelCard.model_validate_json((root / "models/v0001/model.json").read_bytes())
engine = open_database(f"sqlite:///{root / 'server.db'}")

@event.listens_for(engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if statement.startswith("INSERT INTO versions"):
        os._exit(9)

registry = Registry(root / "models", engine, lambda: datetime(2026, 3, 2, tzinfo=UTC))
facts = Provenance(round=1, run=None, code="x", config="y", sites=("north",))
registry.publish(card.build(5).state_dict(), card, parent="v0001", campaign=None, provenance=facts)
"""


def test_a_version_whose_writer_died_before_its_row_is_adopted_whole(
    registry: Registry, publish: Publish, card: ModelCard, tmp_path: Path
) -> None:
    publish(0)
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=False, timeout=120)
    assert died.returncode == 9
    assert states(registry) == {"v0001": "active"}
    found = registry.recover()
    assert (found.new_versions, found.leftovers, found.missing) == (("v0002",), (), ())
    assert states(registry) == {"v0001": "superseded", "v0002": "active"}
    assert same(registry.load("v0002"), card.build(5).state_dict())
    assert registry.get("v0002").parent == "v0001"
    assert registry.recover() == type(found)((), (), ())


def test_a_database_that_fails_at_the_row_loses_nothing_and_the_next_try_publishes_once(
    registry: Registry, publish: Publish, engine: Engine
) -> None:
    publish(0)

    def fail(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO versions"):
            raise OperationalError(statement, {}, sqlite3.OperationalError("disk I/O error"))

    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(OperationalError):
        publish(1, parent="v0001", campaign=1)
    event.remove(engine, "before_cursor_execute", fail)
    assert states(registry) == {"v0001": "active"}
    assert publish(1, parent="v0001", campaign=1).name == "v0002"
    assert states(registry) == {"v0001": "superseded", "v0002": "active"}


def test_a_version_that_another_process_recovered_before_its_row_is_published_once(
    registry: Registry, card: ModelCard
) -> None:
    recovered: list[str] = []

    def clock() -> datetime:
        # Asked for the version's own moment, then for the row's: in between another process starts.
        if (registry.folder / "v0001").exists() and not recovered:
            recovered.extend(registry.recover().new_versions)
        return NOON

    slow = Registry(registry.folder, registry.engine, clock)
    version = slow.publish(card.build().state_dict(), card, parent=None, campaign=1, provenance=FACTS)
    assert recovered == ["v0001"]
    assert registry.versions() == [version]
    assert same(registry.load("v0001"), card.build().state_dict())


def test_half_written_and_damaged_folders_without_a_row_are_removed(registry: Registry, publish: Publish) -> None:
    publish(0)
    (registry.folder / ".v0002.part").mkdir()
    (registry.folder / ".v0002.part" / "model.safetensors").write_bytes(b"half")
    (registry.folder / ".v0000.gone").mkdir()
    (registry.folder / "v0003").mkdir()
    (registry.folder / "v0003" / "model.safetensors").write_bytes(b"half")
    (registry.folder / "notes.txt").write_text("somebody else's")
    found = registry.recover()
    assert found.new_versions == ()
    assert sorted(found.leftovers) == [".v0000.gone", ".v0002.part", "v0003"]
    assert sorted(path.name for path in registry.folder.iterdir()) == ["notes.txt", "v0001"]


def test_a_database_restored_from_before_gets_its_versions_back(
    registry: Registry, publish: Publish, tmp_path: Path, clock: Clock
) -> None:
    publish(0), publish(1, parent="v0001", campaign=1)
    empty = open_database(f"sqlite:///{tmp_path / 'restored.db'}")
    migrate(empty)
    restored = Registry(registry.folder, empty, clock)
    assert restored.recover().new_versions == ("v0001", "v0002")
    assert states(restored) == {"v0001": "superseded", "v0002": "active"}
    assert [v.name for v in restored.lineage("v0002")] == ["v0002", "v0001"]
    assert restored.get("v0002").manifest.campaign == 1
    empty.dispose()


def test_a_folder_that_was_lost_is_reported(registry: Registry, publish: Publish) -> None:
    publish(0)
    (registry.folder / "v0001").rename(registry.folder.parent / "elsewhere")
    assert registry.recover().missing == ("v0001",)
    with pytest.raises(EvidenceError, match="cannot be read"):
        registry.load("v0001")


def test_an_exported_model_loads_with_torch_and_safetensors_alone(
    registry: Registry, publish: Publish, tmp_path: Path, card: ModelCard
) -> None:
    publish(0), publish(1, parent="v0001")
    out = registry.export("v0002", tmp_path / "out")
    # -I: neither this folder nor PYTHONPATH; of what is installed the example may import torch and safetensors only.
    done = subprocess.run(
        [sys.executable, "-I", str(out / "example.py")], capture_output=True, text=True, check=True, timeout=120
    )
    logits = json.loads(done.stdout)
    assert list(logits) == ["image", "report", "both"]
    assert [len(rows[0]) for rows in logits.values()] == [len(card.classes)] * 3
    assert "import common" not in (out / "example.py").read_text()
    state, found = load_checkpoint(out)
    assert found == card
    assert same(state, card.build(1).state_dict())
    with pytest.raises(OutputError, match="exists already"):
        registry.export("v0002", out)


def test_the_example_refuses_weights_that_were_exchanged(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    publish(0), publish(1)
    out = registry.export("v0002", tmp_path / "out")
    (out / "model.safetensors").write_bytes((registry.folder / "v0001" / "model.safetensors").read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", str(out / "example.py")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr == "model.safetensors is not the file that was published\n"


def test_the_model_card_says_what_it_is_where_from_how_good_and_what_not_to_do(
    registry: Registry, publish: Publish, tmp_path: Path
) -> None:
    publish(0), publish(1, parent="v0001")
    text = (registry.export("v0002", tmp_path / "out") / "README.md").read_text()
    assert "| test AUC of opacity at north | 0.810 | 0.700 to 0.920 | 40 |" in text
    assert "| membership AUC, fused | not measured: nobody was forgotten | | |" in text
    assert "v0002 (active), v0001 (superseded)" in text
    assert "sites: north, south" in text
    for heading in ("## Intended use", "## Where it comes from", "## Figures", "## Limits", "## Loading"):
        assert heading in text
