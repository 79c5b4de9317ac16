"""What `docs/add-a-method.md` prints works as printed."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from client.app import open_site
from client.cohort.site import Site
from client.settings_sections import BoundsConfig
from common.learning.model.checkpoint import check_state, state_digest
from common.learning.records import Subset
from common.learning.unlearning import methods
from common.settings import parse
from server.campaign.campaign import run_campaign
from server.rounds.exchanges.connecting import connect
from server.rounds.journal import MemoryJournal
from simulations.run import settings
from simulations.run.local_grid import LocalGrid
from simulations.run.settings import load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-method.md").read_text(encoding="utf-8")
NAME = "forget_labels"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[ModuleType]:
    """The module of the page, from a file of its name."""
    path = tmp_path / f"{NAME}.py"
    path.write_text(blocks("python")[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[NAME]


def test_its_case_worked_by_hand_holds(printed: ModuleType) -> None:
    exec(blocks("python")[2], dict(vars(printed)))  # noqa: S102 - the page itself
    with pytest.raises(AssertionError):
        exec(blocks("python")[2], {**vars(printed), "any_label": lambda logits: logits.sum()})  # noqa: S102


def test_its_preset_selects_it_and_the_site_file_allows_it() -> None:
    preset, site_file = blocks("toml")
    assert parse(settings.SimulationConfig, tomllib.loads(preset), "page").experiment.unlearn.method == NAME
    assert NAME in parse(BoundsConfig, tomllib.loads(site_file)["bounds"], "page").methods
    assert f'"{NAME}": {NAME},' in blocks("python")[1]


@pytest.mark.integration
def test_its_method_runs_in_a_federation_of_made_up_hospitals(
    printed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.app import app
    from simulations.run.prepare import prepare

    monkeypatch.setitem(methods.METHODS, NAME, getattr(printed, NAME))
    (tmp_path / "preset.toml").write_text(blocks("toml")[0], encoding="utf-8")
    config = load_settings(
        str(tmp_path / "preset.toml"),
        ["data.image_size=32", "data.max_tokens=16", "model.width=4", "model.embedding=8", "model.text_hidden=16",
         "hospitals.sites=2", "hospitals.patients=12", "hospitals.image_size=32", "forget=2", "unlearn.passes=2",
         "decision.bootstrap=50"],
        {},
    )  # fmt: skip
    prepared = prepare(config, tmp_path, lambda *_: None)
    open_site.cache_clear()
    folders = {n: {"site-dir": str(prepared.site_folder(s))} for n, s in enumerate(prepared.sites, start=1)}
    for name, patients in prepared.forget.items():
        Site(prepared.site_folder(name)).revoke(patients)
    parent = prepared.card.build(1).state_dict()
    done = run_campaign(
        connect(LocalGrid(app, folders), 2), parent, config.experiment, journal=MemoryJournal(),
        folder=tmp_path / "campaign", on_round=lambda _: None,
    )  # fmt: skip
    check_state(done.state, parent, where="page")
    assert state_digest(done.state) != state_digest(parent)
    retain = 0
    for name in prepared.forget:
        site = Site(prepared.site_folder(name))
        retain += len(site.cohort.of(site.patients(Subset.TRAIN)))

    assert done.unlearn_cost.forward_units >= 2 * 3 * retain
