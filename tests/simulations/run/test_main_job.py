"""The whole way on small made-up hospitals: train, revoke, forget, retrain, audit, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cohort.site import Site
from common.learning.records import Subset
from common.settings import parse
from simulations.cli import app
from simulations.result import Result
from simulations.run.main_job import run_main_job
from simulations.run.settings import SimulationConfig
from simulations.synthetic.federation import write_federation

SMALL = {
    "experiment": {
        "data": {"image_size": 32, "max_tokens": 32},
        "model": {"width": 4, "embedding": 16, "text_hidden": 16, "text_heads": 2, "text_layers": 1},
        "train": {"rounds": 2, "local_epochs": 1, "lr": 3e-3},
        "unlearn": {"passes": 2},
        "folds": {"targets": 2, "audit": 2},
        "decision": {"bootstrap": 50},
    },
    "sites": "natural",
    "forget": 3,
}


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_federation(tmp_path_factory.mktemp("made-up"), sites=3, patients=24, seed=1, image_size=64)


def settings(manifest: Path, **changes: object) -> SimulationConfig:
    return parse(SimulationConfig, {**SMALL, "manifest": str(manifest), "engine": "inprocess", **changes}, "test")


def run(config: SimulationConfig, out: Path, *, resume: bool = False) -> Result:
    return run_main_job(config, out, resume=resume, on_progress=lambda *_: None)


@pytest.fixture(scope="session")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("run")
    return out, run(settings(manifest), out)


def digests(result: Result) -> dict[str, str]:
    return {name: model.digest for name, model in result.models.items()}


def test_a_run_leaves_four_models_a_result_and_a_report(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert set(result.models) == {"original", "retrained", "naive", "unlearned"}
    assert len(set(digests(result).values())) == 4
    assert Result.model_validate_json((out / "result.json").read_bytes()) == result
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    assert all((out / "model" / name / "model.safetensors").exists() for name in result.models)
    assert result.models["unlearned"].forget.patients == 3


def test_cost_is_counted_in_forwards_of_studies(finished: tuple[Path, Result]) -> None:
    _, result = finished
    cost = result.cost
    assert cost["unlearn"].forward_units + cost["retain"].forward_units > 0
    assert cost["train"].forward_units > 0
    assert cost["retrain"].forward_units > 0
    assert all(part.bytes_up > 0 and part.bytes_down > 0 for part in cost.values())


def test_revoked_patients_are_in_no_training_set_afterwards(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    site = Site(out / "sites" / "site-1")
    assert len(site.forget) == 3
    assert not site.forget & site.patients(Subset.TRAIN)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    finished: tuple[Path, Result], manifest: Path, tmp_path: Path
) -> None:
    again = run(settings(manifest), tmp_path / "again")
    assert digests(again) == digests(finished[1])
    assert again.models == finished[1].models
    other = {**SMALL["experiment"], "seed": 5, "folds": {}}  # type: ignore[dict-item]
    different = run(settings(manifest, experiment=other, retrain=False), tmp_path / "other")
    assert set(digests(different).values()).isdisjoint(digests(again).values())


def test_a_run_that_was_cut_short_resumes_to_the_same_bits(
    finished: tuple[Path, Result], manifest: Path, tmp_path: Path
) -> None:
    def stop_after_a_round(stage: str, done: int, total: int) -> None:
        if stage == "retrained" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_main_job(settings(manifest), tmp_path, resume=False, on_progress=stop_after_a_round)
    assert not (tmp_path / "result.json").exists()
    resumed = run(settings(manifest), tmp_path, resume=True)
    assert digests(resumed) == digests(finished[1])
    assert resumed.cost["train"].forward_units == finished[1].cost["train"].forward_units


@pytest.mark.integration
def test_flowers_engine_gives_the_same_bits_as_the_process(
    finished: tuple[Path, Result], manifest: Path, tmp_path: Path
) -> None:
    # In a process of its own: Ray leaves threads and sockets behind that would fail other tests.
    file = tmp_path / "settings.json"
    file.write_text(settings(manifest, engine="flower").model_dump_json())
    code = (
        "import sys; from pathlib import Path; from simulations.run.settings import SimulationConfig;"
        "from simulations.run.main_job import run_main_job;"
        "c = SimulationConfig.model_validate_json(Path(sys.argv[1]).read_bytes());"
        "run_main_job(c, Path(sys.argv[2]), resume=False, on_progress=lambda *_: None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = Result.model_validate_json((tmp_path / "run" / "result.json").read_bytes())
    assert digests(result) == digests(finished[1])


@pytest.mark.parametrize("aggregation", ["relay", "scaled"])
def test_several_hospitals_forget_in_one_campaign(manifest: Path, tmp_path: Path, aggregation: str) -> None:
    experiment = {**SMALL["experiment"], "folds": {}, "campaign": {"aggregation": aggregation}}  # type: ignore[dict-item]
    config = settings(manifest, experiment=experiment, forget=6, forget_sites=("site-1", "site-3"), retrain=False)
    result = run(config, tmp_path)
    assert set(result.models) == {"original", "naive", "unlearned"}
    assert set(result.models["unlearned"].mia_by_site) == {"site-1", "site-3"}
    assert any(m.path == "mia.fused.calibrated" for m in result.models["unlearned"].missing)


def test_a_patient_known_at_two_sites_is_forgotten_at_both(manifest: Path, tmp_path: Path) -> None:
    rows = manifest.read_text(encoding="utf-8").splitlines()
    patient = next(r for r in rows if ",site-1," in r).split(",")[0]
    other = next(r for r in rows if ",site-2," in r).split(",")[0]
    renamed = [r.replace(f"{other},", f"{patient},", 1) if r.startswith(f"{other},") else r for r in rows]
    shared = manifest.parent / "shared.csv"
    shared.write_text("\n".join(renamed) + "\n", encoding="utf-8")
    listed = tmp_path / "forget.csv"
    listed.write_text(f"patient_id\n{patient}\n", encoding="utf-8")
    experiment = {**SMALL["experiment"], "train": {"rounds": 1}, "folds": {}}  # type: ignore[dict-item]
    config = settings(shared, experiment=experiment, forget=str(listed), retrain=False)
    from simulations.run.prepare import prepare

    prepared = prepare(config, tmp_path / "out", lambda *_: None)
    assert {site: len(p) for site, p in prepared.forget.items()} == {"site-1": 1, "site-2": 1}


def test_the_command_prints_json_and_nothing_else(manifest: Path, tmp_path: Path) -> None:
    sets = [f"{key}={value}" for key, value in (("train.rounds", 1), ("data.image_size", 32), ("model.width", 4),
            ("decision.bootstrap", 50))]  # fmt: skip
    arguments = ["run", "--manifest", str(manifest), "--forget", "2", "--engine", "inprocess", "--no-retrain", "--json"]
    arguments += [part for text in sets for part in ("--set", text)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["schema_version"] == 1
