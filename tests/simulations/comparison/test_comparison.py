"""A whole comparison of two methods on tiny hospitals."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cohort.site_files import read_site
from common.errors import ConfigError, OutputError
from common.learning.records import Subset
from common.settings import parse
from simulations.cli import app
from simulations.comparison.cell_result import load_cells
from simulations.comparison.jobs import Jobs, OutOfTimeError
from simulations.comparison.plan import RETRAINED
from simulations.comparison.runner import prepare_folder
from simulations.comparison.settings import ComparisonConfig, VariantConfig
from simulations.synthetic.federation import write_federation

METHODS = ("forget_mi_calibrated", "fine_tune")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ComparisonConfig:
    manifest = write_federation(tmp_path_factory.mktemp("made-up"), sites=2, patients=45, seed=1, image_size=64)
    values: dict[str, Any] = {
        "methods": METHODS,
        "sizes": (0.15,),
        "seeds": 1,
        "variants": {
            "by-rank": {"method": "forget_mi_calibrated", "settings": {"unlearn": {"fold_targets": "off"}}},
            "again": {"method": "forget_mi_calibrated", "times": 2},
        },
        "tuning": {"trials": 2, "draws": 2, "budget": 1.0},
        "run": {
            "manifest": str(manifest),
            "engine": "inprocess",
            "experiment": {
                "data": {"image_size": 32, "max_tokens": 16},
                "model": {"width": 4, "embedding": 8, "text_hidden": 16, "text_heads": 2, "text_layers": 1},
                "train": {"rounds": 2, "local_epochs": 1, "lr": 3e-3},
                "folds": {"targets": 2, "audit": 2},
                "unlearn": {"passes": 1},
                "decision": {"bootstrap": 50},
            },
        },
    }
    return parse(ComparisonConfig, values, "test")


@pytest.fixture(scope="module")
def done(config: ComparisonConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("comparison")
    prepare_folder(config, out)
    jobs = Jobs(config, out)
    jobs.original(config.tuning.seed)
    jobs.original(0)
    for method in METHODS:
        jobs.tune(method)
    jobs.cells(0, 0.15)

    return out


def test_each_cell_leaves_a_result_with_its_cost_and_its_distance_to_one_retrained_model(done: Path) -> None:
    found = {result.cell.variant or result.cell.method: result for result in load_cells(done)}
    assert sorted(found) == sorted(("original", "retrained", *METHODS, "by-rank", "again"))
    assert found["retrained"].model.distance_to_retrained == pytest.approx(0.0, abs=1e-6)

    for method in METHODS:
        assert found[method].cost.forward_units > 0
        assert found[method].model.distance_to_retrained != 0
        assert found[method].model.mia["fused"].calibrated is not None
        assert found[method].roc.tpr[-1] == 1

    assert len({result.model.digest for result in found.values()}) == 6
    assert found["again"].cost.forward_units > 1.5 * found["forget_mi_calibrated"].cost.forward_units


def test_a_variant_differs_from_its_method_as_tuned_in_nothing_but_its_own_settings(done: Path) -> None:
    found = {result.cell.variant or result.cell.method: result.settings for result in load_cells(done)}
    ours, theirs = (flat(found[name]) for name in ("by-rank", "forget_mi_calibrated"))
    assert {name for name in ours if ours[name] != theirs[name]} == {"unlearn.fold_targets"}


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def test_a_variant_with_what_is_no_setting_is_refused(done: Path, config: ComparisonConfig) -> None:
    magic = VariantConfig(method="fine_tune", settings={"unlearn": {"magic": 1}})
    with pytest.raises(ConfigError, match=r"unlearn\.magic"):
        Jobs(config.model_copy(update={"variants": {"magic": magic}}), done).cells(0, 0.15)


def test_patients_who_were_tuned_on_are_in_no_comparison(done: Path, config: ComparisonConfig) -> None:
    here: dict[int, set[str]] = {}
    for seed in (0, config.tuning.seed):
        files = [read_site(path.parent) for path in (done / "worlds" / f"seed-{seed}" / "sites").glob("*/site.json")]
        here[seed] = {patient for file in files for patient in file.cohort.patients}
        assert all(set(Subset) == set(file.subsets.values()) for file in files)

    assert here[0]
    assert here[config.tuning.seed]
    assert not here[0] & here[config.tuning.seed]


def test_tuning_tries_the_preset_and_stops_at_what_every_method_may_spend(done: Path) -> None:
    found = [json.loads((done / "tuning" / f"{method}.json").read_text()) for method in METHODS]
    assert found[0]["allowed"] == found[1]["allowed"] > 0
    for tuned in found:
        assert all(factor == 1.0 for factor in tuned["trials"][0]["setting"].values())
        assert sum(trial["forward_units"] for trial in tuned["trials"][:-1]) < tuned["allowed"]


def test_what_was_cut_short_goes_on_from_the_last_result_and_trains_nothing_again(
    done: Path, config: ComparisonConfig
) -> None:
    paths = {r.cell.variant or r.cell.method: Jobs(config, done).path(r.cell) for r in load_cells(done)}
    before = {method: path.stat().st_mtime_ns for method, path in paths.items()}
    gold = done / "work" / "seed-0-15" / RETRAINED / "progress.json"
    trained = gold.stat().st_mtime_ns
    kept = paths["fine_tune"].read_text()
    paths["fine_tune"].unlink()
    assert [cell.name for cell in Jobs(config, done).cells(0, 0.15)] == ["fine_tune--replace"]
    assert gold.stat().st_mtime_ns == trained
    after = {method: path.stat().st_mtime_ns for method, path in paths.items()}
    assert {method for method in after if after[method] != before[method]} == {"fine_tune"}
    assert json.loads(kept)["model"] == json.loads(paths["fine_tune"].read_text())["model"]


def test_nothing_is_begun_when_the_budget_is_spent(done: Path, config: ComparisonConfig) -> None:
    more = config.model_copy(update={"methods": (*METHODS, "ssd")})
    with pytest.raises(OutOfTimeError):
        Jobs(more, done, until=time.time()).cells(0, 0.15)
    assert len(load_cells(done)) == 6


def test_methods_may_be_added_to_a_folder_but_its_federation_may_not_change(
    done: Path, config: ComparisonConfig
) -> None:
    prepare_folder(config.model_copy(update={"methods": (*METHODS, "ssd"), "seeds": 2}), done)
    with pytest.raises(OutputError, match="another sizes"):
        prepare_folder(config.model_copy(update={"sizes": (0.2,)}), done)
    prepare_folder(config, done)


@pytest.mark.integration
def test_the_command_runs_processes_projects_and_writes_the_tables(config: ComparisonConfig, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(f'methods = ["fine_tune"]\nsizes = [0.15]\nseeds = 1\n[tuning]\ntrials = 1\n{toml(config)}')
    command = ["compare", "--preset", str(preset), "--out", str(tmp_path / "out"), "--jobs", "1"]
    stopped = CliRunner().invoke(app, [*command, "--budget-minutes", "0", "--json"])
    assert stopped.exit_code == 0, stopped.output
    assert json.loads(stopped.stdout) == {"finished": False, "models": 0}
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "projected: at most" in result.stderr
    again = CliRunner().invoke(app, [*command, "--tables", "--json"])
    said = json.loads(again.stdout)
    assert (said["finished"], said["models"]) == (True, 3)
    assert [row["method"] for row in said["rows"]] == ["original", "retrained", "fine_tune"]
    assert (tmp_path / "out" / "report.html").exists()


def toml(config: ComparisonConfig) -> str:
    experiment = config.run.model_dump(mode="json", exclude_unset=True)["experiment"]
    tables = [f"[run]\nmanifest = {json.dumps(config.run.manifest)}"]
    for name, values in experiment.items():
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        tables.append(f"[run.experiment.{name}]\n{lines}")

    return "\n".join(tables)
