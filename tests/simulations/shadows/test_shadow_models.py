from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from common.errors import CohortError, ConfigError, OutputError
from common.settings import parse
from simulations.cli import app
from simulations.run.settings import SimulationConfig
from simulations.shadows.order import Order, halves, parse_share
from simulations.shadows.shadow_models import train_shadows
from simulations.shadows.shadow_pool import (
    TRAINED,
    ShadowFile,
    attack_pool,
    load_pool,
    read_shadow,
    shadow_path,
    write_shadow,
)
from simulations.synthetic.federation import write_federation

METHODS = ("forget_mi_calibrated", "fine_tune")
SMALL = {
    "experiment": {
        "data": {"image_size": 32, "max_tokens": 16},
        "model": {"width": 4, "embedding": 8, "text_hidden": 16, "text_heads": 2, "text_layers": 1},
        "train": {"rounds": 2, "local_epochs": 1, "lr": 3e-3},
        "unlearn": {"passes": 1},
        "campaign": {"retention_rounds": 0},
    },
    "sites": "natural",
    "forget": 3,
    "engine": "inprocess",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SimulationConfig:
    manifest = write_federation(tmp_path_factory.mktemp("made-up"), sites=2, patients=24, seed=1, image_size=64)
    return parse(SimulationConfig, {**SMALL, "manifest": str(manifest)}, "test")


@pytest.fixture(scope="module")
def trained(config: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shadows")
    train_shadows(config, Order(4, METHODS), out, lambda *_: None)
    return out


def equal(left: ShadowFile, right: ShadowFile) -> bool:
    return (
        left.patients == right.patients
        and np.array_equal(left.members, right.members)
        and np.array_equal(left.forgotten, right.forgotten)
        and left.confidence.keys() == right.confidence.keys()
        and all(np.array_equal(left.confidence[name], right.confidence[name]) for name in left.confidence)
    )


def test_two_shadows_share_the_patients_out_and_another_two_otherwise() -> None:
    pool = [f"p{n}" for n in range(11)]
    parts = [halves(pool, number, seed=3) for number in range(4)]
    assert parts[0] | parts[1] == parts[2] | parts[3] == set(pool)
    assert [len(part) for part in parts] == [5, 6, 5, 6]
    assert parts[0] != parts[2]
    assert halves(pool, 2, seed=3) == parts[2] != halves(pool, 2, seed=4)


def test_every_patient_is_in_half_of_the_shadows_and_forgotten_only_where_trained_on(trained: Path) -> None:
    pool = load_pool(trained)
    assert pool.members.shape == (4, len(pool.patients))
    assert (pool.members.sum(axis=0) == 2).all()
    assert not (pool.forgotten & ~pool.members).any()
    assert pool.forgotten.sum(axis=1).tolist() == [3, 3, 3, 3]
    assert {pool.sites[n] for n in np.flatnonzero(pool.forgotten.any(axis=0))} == {pool.sites[0]}
    assert sorted(pool.confidence) == sorted((TRAINED, *METHODS))
    assert all(np.isfinite(values).all() for values in pool.confidence.values())
    assert not np.array_equal(pool.confidence[TRAINED], pool.confidence[METHODS[0]])


def test_scores_are_kept_and_no_weights(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "shadows").iterdir()) == ["000.npz", "001.npz", "002.npz", "003.npz"]
    assert not [*trained.rglob("*.safetensors")]
    assert not [*(trained / "work").iterdir()]


def test_a_run_that_was_cut_short_and_shares_in_any_order_give_the_same_scores(
    config: SimulationConfig, trained: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("shadow 3", 1):
            raise Stopped

    with pytest.raises(Stopped):
        train_shadows(config, Order(4, METHODS, (1, 2)), tmp_path, stop)
    first = shadow_path(tmp_path, 1).stat().st_mtime_ns
    assert not shadow_path(tmp_path, 3).exists()
    train_shadows(config, Order(4, METHODS, (1, 2)), tmp_path, lambda *_: None)
    assert shadow_path(tmp_path, 1).stat().st_mtime_ns == first
    assert not shadow_path(tmp_path, 0).exists()
    for number in (1, 3):
        assert equal(read_shadow(shadow_path(tmp_path, number)), read_shadow(shadow_path(trained, number)))


def test_a_method_that_is_asked_for_later_is_added(config: SimulationConfig, trained: Path, tmp_path: Path) -> None:
    train_shadows(config, Order(2, METHODS[:1], (0, 2)), tmp_path, lambda *_: None)
    before = read_shadow(shadow_path(tmp_path, 0))
    assert sorted(before.confidence) == sorted((TRAINED, METHODS[0]))
    train_shadows(config, Order(2, METHODS, (0, 2)), tmp_path, lambda *_: None)
    assert equal(read_shadow(shadow_path(tmp_path, 0)), read_shadow(shadow_path(trained, 0)))


def test_a_folder_with_other_settings_is_not_gone_on_from(config: SimulationConfig, trained: Path) -> None:
    other = config.model_copy(update={"forget": 4})
    with pytest.raises(OutputError, match="other settings"):
        train_shadows(other, Order(4, METHODS), trained, lambda *_: None)


@pytest.mark.parametrize(
    ("order", "what"),
    [(Order(3, ()), "even number"), (Order(4, (), (2, 2)), "share 3 of 2"), (Order(4, ("magic",)), "unknown method")],
)
def test_an_order_that_cannot_be_filled_is_refused(
    config: SimulationConfig, tmp_path: Path, order: Order, what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        train_shadows(config, order, tmp_path, lambda *_: None)
    assert not [*tmp_path.iterdir()]


def test_a_share_is_written_as_a_fraction() -> None:
    assert parse_share("2/3") == (1, 3)
    for text in ("2", "a/b", "1/"):
        with pytest.raises(ConfigError, match="invalid share"):
            parse_share(text)


def made_up(models: int, patients: int, left: float) -> list[ShadowFile]:
    """Shadows whose confidence is 3 higher for whom they were trained on, and `left` of that after unlearning."""
    rng = np.random.default_rng(0)
    shadows = []

    for number in range(models):
        members = np.array(
            [p in halves([str(n) for n in range(patients)], number, 0) for p in map(str, range(patients))]
        )
        forgotten = members & (rng.random(patients) < 0.5)
        noise = rng.normal(0, 1, (3, patients))
        memory = 3.0 * members
        after = np.where(forgotten, left * memory, memory)
        shadows.append(
            ShadowFile(
                ("site-1",) * patients, tuple(map(str, range(patients))), members, forgotten,
                {TRAINED: noise + memory, "some": noise + after},
            )
        )  # fmt: skip

    return shadows


@pytest.mark.parametrize(("left", "low", "high"), [(1.0, 0.95, 1.0), (0.0, 0.44, 0.56)])
def test_the_attacks_find_what_is_left_and_nothing_where_nothing_is(
    tmp_path: Path, left: float, low: float, high: float
) -> None:
    for number, shadow in enumerate(made_up(32, 40, left)):
        write_shadow(shadow_path(tmp_path, number), shadow)

    attacks = {(one.model, one.branch): one for one in attack_pool(load_pool(tmp_path), seed=0)}
    assert len(attacks) == 6
    trained = attacks[TRAINED, "fused"]
    assert trained.attack == "lira"
    assert trained.auc is not None
    assert trained.auc > 0.95

    after = attacks["some", "fused"]
    assert after.attack == "u-lira"
    assert after.auc is not None
    assert after.ci95 is not None
    assert after.epsilon_cap is not None
    assert low <= after.auc <= high
    assert after.ci95[0] <= after.auc <= after.ci95[1]
    assert after.pairs >= 200
    assert after.epsilon_cap[0] <= after.epsilon_cap[1]
    assert [leak.auc for leak in after.leaks] == sorted((leak.auc for leak in after.leaks), reverse=True)


def test_shadows_of_different_patients_are_no_pool(tmp_path: Path) -> None:
    write_shadow(shadow_path(tmp_path, 0), made_up(1, 6, 0.0)[0])
    write_shadow(shadow_path(tmp_path, 1), made_up(1, 8, 0.0)[0])
    with pytest.raises(CohortError, match="different patients"):
        load_pool(tmp_path)
    with pytest.raises(CohortError, match="run fedforget-sim shadows"):
        load_pool(tmp_path / "empty")


def test_the_command_prints_the_attacks_and_no_patient(config: SimulationConfig, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(_toml(config), encoding="utf-8")
    command = ["shadows", "--preset", str(tmp_path / "small.toml"), "--count", "4", "--methods", ",".join(METHODS)]
    done = CliRunner().invoke(app, [*command, "--out", str(trained), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["shadows"] == 4
    assert {row["model"] for row in said["attacks"]} == {TRAINED, *METHODS}
    # In a fold of two shadows each patient is in one: LiRA can be held out. Three of twelve forgotten are too few.
    assert all((row["auc"] is None) == bool(row["missing"]) for row in said["attacks"])
    assert all(0 <= row["auc"] <= 1 for row in said["attacks"] if row["model"] == TRAINED)
    table = CliRunner().invoke(app, [*command, "--out", str(trained)])
    assert "divergence, in nats, from models that never saw them" in " ".join(table.stdout.split())
    assert not any(patient in done.stdout + table.stdout for patient in load_pool(trained).patients)


def _toml(config: SimulationConfig) -> str:
    lines = [f'manifest = "{config.manifest}"', 'sites = "natural"', "forget = 3", 'engine = "inprocess"']
    for table, values in SMALL["experiment"].items():  # type: ignore[attr-defined]  # a dict of dicts above
        lines += [f"[experiment.{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
