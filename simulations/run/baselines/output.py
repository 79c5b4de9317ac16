"""Baselines over seeds as a table: mean AUC with its interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from simulations.baseline_result import TRAINED, BaselineResult, Training

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """One baseline and way of training: means over seeds, and half the width of the 95 % interval."""

    name: str
    training: Training
    auc: float | None
    half: float | None
    across: float | None
    seeds: int


def rows(runs: Sequence[Sequence[BaselineResult]]) -> list[Row]:
    """A row for each baseline and way of training, in the order of the first run.

    The interval is Student's t over seeds: how much the split and the draw of patients matter, not more.
    """
    table = []

    for first in runs[0] if runs else []:
        same = [one for run in runs for one in run if (one.name, one.training) == (first.name, first.training)]
        aucs = [one.auc for one in same if one.auc is not None]
        across = [one.auc_across for one in same if one.auc_across is not None]
        table.append(
            Row(
                first.name,
                first.training,
                float(np.mean(aucs)) if aucs else None,
                _half(aucs),
                float(np.mean(across)) if across else None,
                len(aucs),
            )
        )

    return table


def markdown(table: Sequence[Row], *, title: str, command: str, patients: int) -> str:
    """A page with the table."""
    lines = [
        f"# Baselines: {title}",
        "",
        f"Command: `{command}`.",
        "",
        f"Macro one-vs-rest AUC of test patients, about {patients} a seed, split by patient: the mean over seeds with",
        "its 95 % interval over seeds (Student's t). *Within* compares patients of one hospital, as the model's test",
        "AUC does. *Across* also compares patients of different hospitals. A classifier that is better across than",
        "within also recognises the hospital.",
        "",
        "| baseline | trained | AUC within | AUC across | seeds |",
        "|---|---|---|---|---|",
    ]
    for row in table:
        cells = (row.name, TRAINED[row.training], _shown(row.auc, row.half), _shown(row.across, None), str(row.seeds))
        lines.append(f"| {' | '.join(cells)} |")

    return "\n".join(lines) + "\n"


def _half(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf((1 + _LEVEL) / 2, len(values) - 1))
    return float(quantile * np.std(values, ddof=1) / len(values) ** 0.5)


def _shown(value: float | None, half: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if half is None else f"{value:.3f} ± {half:.3f}"
