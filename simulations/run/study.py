"""A study: the main job over seeds, and paired differences with intervals clustered by seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

from common.errors import FedForgetError
from common.files import write_text
from common.platform.terminal.natural_order import natural
from simulations.equivalence import Reading, interval, reading, reading_below
from simulations.result import Branch, ModelName, ModelResult, Result
from simulations.run.settings import SimulationConfig

BRANCHES: tuple[Branch, ...] = ("image", "text", "fused")
MODELS: tuple[ModelName, ...] = ("original", "naive", "retrained", "unlearned")


def run_study(
    config: SimulationConfig,
    seeds: int,
    jobs: int,
    out: Path,
    *,
    rotate: bool,
    on_progress: Callable[[str, int, int], None],
) -> list[Result]:
    """One process per seed, `jobs` at a time; seeds with a result are skipped.

    Raises:
        FedForgetError: a seed failed.
    """
    lock = threading.Lock()
    finished_count = [0]

    def one(seed: int) -> Result:
        folder = out / f"seed-{seed}"
        result = _run_seed(config, seed, folder, rotate=rotate)
        with lock:
            finished_count[0] += 1
            on_progress("seeds", finished_count[0], seeds)

        return result

    on_progress("seeds", 0, seeds)
    # Threads, as each one only waits for its process.
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, range(seeds)))


def _run_seed(config: SimulationConfig, seed: int, folder: Path, *, rotate: bool) -> Result:
    values = config.model_dump(mode="json", exclude_unset=True)
    values["experiment"] = {**values.get("experiment", {}), "seed": seed}
    # Rotated, so that the study does not rest on one hospital's patients.
    if rotate and isinstance(config.sites, int):
        values["forget_sites"] = [f"site-{seed % config.sites + 1}"]
    if rotate and not config.manifest and config.sites == "natural" and len(config.forget_sites) < 2:
        values["forget_sites"] = [f"site-{seed % config.hospitals.sites + 1}"]
    own_config = SimulationConfig.model_validate(values)
    result_file = folder / "result.json"
    config_file = folder / "config.json"

    if result_file.exists():
        result = Result.model_validate_json(result_file.read_bytes())
        # A result of other settings is run again, not averaged with the rest.
        if result.config == own_config.model_dump(mode="json"):
            return result

    # A process per seed, since torch reads its number of threads once, on import.
    write_text(folder / "settings.json", json.dumps(values))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    resume = config_file.exists() and SimulationConfig.model_validate_json(config_file.read_bytes()) == own_config
    code = subprocess.run(
        [sys.executable, "-m", "simulations.run.study", str(folder), "--resume" if resume else "--anew"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if code.returncode:
        lines = code.stderr.strip().splitlines()
        raise FedForgetError(f"seed {seed} failed: {lines[-1] if lines else 'no message'}")

    return Result.model_validate_json(result_file.read_bytes())


def _seed_process(folder: Path, *, resume: bool) -> None:
    from simulations.run.main_job import run_main_job  # noqa: PLC0415 - only the process of a seed needs torch

    values = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    config = SimulationConfig.model_validate(values)
    run_main_job(config, folder, resume=resume, on_progress=lambda *_: None)


Figure = Callable[[ModelResult], float | None]


def _figures() -> dict[str, Figure]:
    """Readers of all figures in the table, by name."""
    rows: dict[str, Figure] = {}

    for b in BRANCHES:
        rows[f"{b}: loss AUC (MIA)"] = lambda m, b=b: m.mia[b].auc  # type: ignore[misc]
        rows[f"{b}: KS"] = lambda m, b=b: m.mia[b].ks  # type: ignore[misc]
        rows[f"{b}: calibrated rank"] = lambda m, b=b: m.mia[b].calibrated  # type: ignore[misc]
        rows[f"{b}: forget AUC"] = lambda m, b=b: m.branches[b].groups["forget"].auc  # type: ignore[misc]
        rows[f"{b}: forget F1"] = lambda m, b=b: m.branches[b].groups["forget"].f1  # type: ignore[misc]
        rows[f"{b}: forget accuracy"] = lambda m, b=b: m.branches[b].groups["forget"].accuracy  # type: ignore[misc]
        rows[f"{b}: test AUC"] = lambda m, b=b: m.branches[b].groups["test"].auc  # type: ignore[misc]
        rows[f"{b}: test cross-entropy"] = lambda m, b=b: m.branches[b].groups["test"].ce_mean  # type: ignore[misc]

    return rows


AIMS = {"loss AUC (MIA)": 0.05, "KS": 0.05, "calibrated rank": 0.05, "forget accuracy": 0.05, "test AUC": 0.03}
"""Largest acceptable |mean difference| to the retrained model."""


COST_AIM = 0.10
"""Most of retraining that a campaign may cost, fold models aside."""


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; each value is one seed, so seeds are the clusters."""
    array = np.asarray(values)
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else 0.0
    mean = float(array.mean())

    return mean, mean - half, mean + half


def study_markdown(results: list[Result], *, title: str, command: str) -> str:
    """Tables of a study from its `result.json` files alone."""
    outcomes = [r.decision.outcome for r in results]
    lines = [
        f"# Study: {title}",
        "",
        f"Command: `{command}`. {len(results)} seeds, "
        f"{np.mean([r.seconds for r in results]) / 60:.1f} minutes a seed on average, reference models included.",
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in results[0].versions.items()) + ".",
        "",
        "Each cell is the mean over seeds. Differences are paired within a seed, *unlearned - retrained*, with the",
        "95 % interval by Student's t over seeds. MIA and RMIA AUC: .5 cannot tell, above remembers, below has",
        "over-forgotten; KS: 0 is the same distribution as never-seen; forget figures: the aim is the",
        "retrained model's, not the lowest; test AUC: higher is better; cross-entropy, in nats: lower is better.",
        "",
        "*Shown*: the 90 % interval of the mean difference lies within the aim, two one-sided tests at 5 % (TOST).",
        "*Refuted*: it lies outside. *Not shown*: neither; these seeds cannot tell.",
        "",
        "| figure | original | naive | retrained | unlearned | unlearned - retrained [90 %] | aim | equivalence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines_by_reading: dict[Reading, list[str]] = {"shown": [], "not shown": [], "refuted": []}

    for name, read in _figures().items():
        cells = []
        pairs = []
        # Models are averaged one by one; only the differences are paired within a seed.
        for model in MODELS:
            values = [v for r in results if (v := read(r.models[model])) is not None]
            cells.append(f"{np.mean(values):.3f}" if values else "—")

        for r in results:
            ours = read(r.models["unlearned"])
            aim = read(r.models["retrained"])
            if ours is not None and aim is not None:
                pairs.append(ours - aim)

        bound = AIMS.get(name.split(": ")[1])
        if not pairs:
            lines.append(f"| {name} | {' | '.join(cells)} | — | — | — |")
            continue

        d, lo, hi = interval(pairs)
        answer = None if bound is None else reading(pairs, bound)
        if answer is not None:
            lines_by_reading[answer].append(f"{name} ({d:+.3f}, aim {bound})")
        text = "" if bound is None else f"{bound:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {d:+.3f} [{lo:+.3f}, {hi:+.3f}] | {text} | {answer or ''} |")

    lines += [
        "",
        *_cost(results),
        "",
        "Decisions: " + ", ".join(f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes))) + ".",
        "",
        *(f"{name.capitalize()}: {'; '.join(figures) or 'none'}." for name, figures in lines_by_reading.items()),
        "",
        *_by_site(results),
    ]

    return "\n".join(lines).rstrip() + "\n"


def _cost(results: list[Result]) -> list[str]:
    """Of a campaign, and of the fold models that a lineage pays once, both as shares of retraining."""
    campaigns = [
        (r.cost["unlearn"].forward_units + r.cost["retain"].forward_units) / r.cost["retrain"].forward_units
        for r in results
    ]
    folds = [r.cost["folds"].forward_units / r.cost["retrain"].forward_units for r in results if "folds" in r.cost]
    mean, low, high = interval(campaigns)
    lines = [
        f"Cost of unlearning and retention over retraining, in forward units: {mean:.3f} [{low:.3f}, {high:.3f}]; aim "
        f"at most {COST_AIM:.2f}: {reading_below(campaigns, COST_AIM)}."
    ]
    if folds:
        once = float(np.mean(folds))
        lines.append(
            f"The fold models cost {once:.2f} retrainings once a lineage. Shared by 12 campaigns a campaign costs "
            f"{mean + once / 12:.2f}, by 50 campaigns {mean + once / 50:.2f}. Retraining once a month costs 12 a year."
        )

    return lines


def _by_site(results: list[Result]) -> list[str]:
    """MIA at each forgetting hospital, if there are several."""
    sites = sorted({s for r in results for s in r.models["unlearned"].mia_by_site}, key=natural)
    if max(len(r.models["unlearned"].mia_by_site) for r in results) < 2:
        return []
    lines = [
        "Loss AUC (MIA) at each forgetting hospital. Every figure is of the final model: a hospital that forgot first,",
        "as under `relay`, is audited after the last one and the retention rounds have changed the model again.",
        "",
        "| site | branch | original | naive | retrained | unlearned |",
        "|---|---|---|---|---|---|",
    ]
    for site in sites:
        for branch in BRANCHES:
            cells = []
            for model in MODELS:
                parts = [
                    r.models[model].mia_by_site[site][branch] for r in results if site in r.models[model].mia_by_site
                ]
                aucs = [part.auc for part in parts if part.auc is not None]
                cells.append(f"{np.mean(aucs):.3f}" if aucs else "—")

            lines.append(f"| {site} | {branch} | {' | '.join(cells)} |")

    return lines


if __name__ == "__main__":
    try:
        _seed_process(Path(sys.argv[1]), resume=sys.argv[2] == "--resume")
    except FedForgetError as error:
        sys.exit(str(error))
