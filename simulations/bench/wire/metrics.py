"""What half precision on the wire does to the metrics: the main job in fp32, fp16 and bf16, paired within each seed."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from common.files import write_text
from common.learning.config import Precision
from simulations.result import ModelName, Result
from simulations.run.settings import SimulationConfig, load_settings
from simulations.run.study import BRANCHES, mean_interval, run_study

SMALL = (
    "forget=8",
    "qualify=false",
    "hospitals.patients=40",
    "data.image_size=64",
    "model.width=8",
    "train.rounds=15",
    "train.patience=5",
    "train.lr=1e-3",
    "retrain=false",
    "engine=inprocess",
)
"""Upon the preset `demo`: minutes for a dozen runs."""
SHORT: tuple[Precision, ...] = ("fp16", "bf16")


def config_of(precision: Precision) -> SimulationConfig:
    """The small main job with `precision` on the wire."""
    return load_settings("demo", [*SMALL, f"wire.precision={precision}"], {})


def _pairs(exact: list[Result], short: list[Result], model: ModelName) -> dict[str, list[float]]:
    """Differences short - exact by figure, one value a seed."""
    figures: dict[str, list[float]] = {}

    for exact_result, short_result in zip(exact, short, strict=True):
        old = exact_result.models[model]
        new = short_result.models[model]

        for branch in BRANCHES:
            then = old.branches[branch].groups["test"].auc
            now = new.branches[branch].groups["test"].auc
            if then is not None and now is not None:
                figures.setdefault(f"{branch}: test AUC", []).append(now - then)
            then = old.mia[branch].auc
            now = new.mia[branch].auc
            if then is not None and now is not None:
                figures.setdefault(f"{branch}: loss AUC (MIA)", []).append(now - then)

    return figures


def table(results: dict[Precision, list[Result]]) -> str:
    """Mean differences to fp32 and their 95 % intervals by Student's t over seeds."""
    models: tuple[ModelName, ...] = ("original", "unlearned")
    lines = ["| figure | model | fp16 - fp32 [95 %] | bf16 - fp32 [95 %] |", "|---|---|---|---|"]

    for model in models:
        pairs = {precision: _pairs(results["fp32"], results[precision], model) for precision in SHORT}
        for name in sorted(pairs["fp16"]):
            cells = [_cell(pairs[precision][name]) for precision in SHORT]
            lines.append(f"| {name} | {model} | {' | '.join(cells)} |")

    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _tell(precision: Precision, what: str, at: int, of: int) -> None:
    sys.stderr.write(f"{precision}: {what} {at} of {of}\n")


def main() -> None:
    """Run what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.wire.metrics")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/wire"))
    parser.add_argument("--write", type=Path, help="Markdown file")
    arguments = parser.parse_args()
    precisions: tuple[Precision, ...] = ("fp32", *SHORT)
    results = {
        precision: run_study(
            config_of(precision),
            arguments.seeds,
            1,
            arguments.out / precision,
            rotate=True,
            on_progress=partial(_tell, precision),
        )
        for precision in precisions
    }
    text = f"{arguments.seeds} seeds; `demo` with {', '.join(f'`{one}`' for one in SMALL)}.\n\n{table(results)}"
    sys.stdout.write(text)
    if arguments.write:
        write_text(arguments.write, text)


if __name__ == "__main__":
    main()
