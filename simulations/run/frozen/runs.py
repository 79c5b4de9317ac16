"""Federated training of the variants of the study, seed by seed, beside logistic regression on the same features."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid
from pydantic import BaseModel, ConfigDict

from client.cohort.site import Site
from common.files import write_text
from common.learning.config import ExperimentConfig
from common.learning.device import derive_seed
from common.learning.evaluation.metrics import macro_auc, merge_utility, utility
from common.learning.evaluation.scores import BRANCHES
from common.learning.records import Subset
from server.rounds.aggregation import State
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.training import train
from simulations.baseline_result import BaselineResult
from simulations.run.baselines.run import all_in_one, run_baselines
from simulations.run.engine import run_on
from simulations.run.prepare import Prepared, prepare
from simulations.run.settings import SimulationConfig, load_settings


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train, as settings on top of the preset."""

    name: str
    settings: tuple[str, ...]
    seeds: int


class SeedResult(BaseModel):
    """One variant and seed: AUC of the test patients within hospitals and across them, and what it took."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    within: dict[str, float | None]
    across: dict[str, float | None]
    rounds: int
    kept: int
    weights: int
    up: int
    down: int
    seconds: float
    baselines: list[BaselineResult] = []


def run_variant(variant: Variant, preset: str, assignments: Sequence[str], out: Path) -> list[SeedResult]:
    """All seeds of a variant; a seed with a result is read back.

    Raises:
        InputError: settings, data or a folder.
    """
    results = []

    for seed in range(variant.seeds):
        folder = out / variant.name / f"seed-{seed}"
        file = folder / "result.json"
        if not file.exists():
            config = load_settings(preset, [*variant.settings, *assignments, f"seed={seed}"], {})
            folder.mkdir(parents=True, exist_ok=True)
            write_text(file, _run(config, folder, out / "cache").model_dump_json(indent=2) + "\n")
        results.append(SeedResult.model_validate_json(file.read_bytes()))

    return results


def _run(config: SimulationConfig, folder: Path, cache: Path) -> SeedResult:
    preparation = prepare(config, folder, lambda *_: None, cache_folder=cache)
    begin = time.monotonic()
    runs: list[tuple[State, int, int, Meter]] = []
    run_on(
        config.engine,
        lambda grid: runs.append(_trained(grid, preparation, config.experiment, folder)),
        sites_folder=folder / "sites",
        sites=len(preparation.sites),
    )
    state, rounds, best_round, meter = runs[0]
    seconds = time.monotonic() - begin
    within, across = _tested(preparation, state)

    return SeedResult(
        within=within,
        across=across,
        rounds=rounds,
        kept=best_round,
        weights=sum(tensor.numel() for tensor in state.values()),
        up=meter.bytes_up,
        down=meter.bytes_down,
        seconds=seconds,
        baselines=run_baselines(preparation, config.experiment.seed, on_progress=lambda *_: None),
    )


def _trained(
    grid: Grid, preparation: Prepared, experiment: ExperimentConfig, folder: Path
) -> tuple[State, int, int, Meter]:
    federation = connect(grid, len(preparation.sites))
    federation.downlink = Downlink(
        experiment.wire.precision, preparation.card.frozen_names(), preparation.card.encoders
    )
    federation.meter = Meter()
    result = train(
        federation,
        preparation.card.build(experiment.seed).state_dict(),
        experiment.train,
        preparation.card,
        seed=derive_seed(experiment.seed, "original") % 2**31,
        folder=folder / "train",
        on_round=lambda _: None,
    )
    best_round = next(record.round for record in result.rounds if record.kept)

    return result.state, len(result.rounds), best_round, federation.meter


def _tested(preparation: Prepared, state: State) -> tuple[dict[str, float | None], dict[str, float | None]]:
    sites = [Site(preparation.site_folder(name)) for name in preparation.sites]
    scores = [runs for site in sites if (runs := site.scores(state, Subset.TEST)) is not None]
    classes = len(preparation.card.classes)
    everybody = all_in_one(scores)
    within: Mapping[str, float | None] = {
        name: macro_auc(merge_utility([utility(one, at, classes) for one in scores]))
        for at, name in enumerate(BRANCHES)
    }

    return dict(within), {name: macro_auc(utility(everybody, at, classes)) for at, name in enumerate(BRANCHES)}
