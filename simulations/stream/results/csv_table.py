"""The figures of a stream as CSV, for other programs."""

from __future__ import annotations

import csv
import io

from common.evidence.outcomes.grounds_text import rests_on
from simulations.result import DecisionResult
from simulations.stream.record import Audited, StreamRecord
from simulations.stream.results.summary import FIGURES


def to_csv(record: StreamRecord) -> str:
    """A row for every model: the original, the model after each campaign, and each retrained control."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("test_auc", "test_f1", "test_ce", "mia_fused", "mia_image", "mia_text", "forgotten_auc")
    writer.writerow([
        "seed", "model", "campaign", "day", "patients", "hospitals", "days_left", "reason", "leaving", "decision",
        "rests_on", *figures, "forward_units", "retraining_units",
    ])  # fmt: skip

    for seed in record.seeds:
        none = [""] * 7
        writer.writerow(
            [seed.seed, "original", 0, 0, *none, *_figures(seed.original), seed.original_cost.forward_units, ""]
        )

        for c in seed.campaigns:
            writer.writerow([
                seed.seed, c.how, c.number, c.day, sum(c.patients.values()), len(c.patients), c.days_left, c.reason,
                c.leaving, *_decision(c.decision), *_figures(c.audited), c.cost.forward_units, c.retraining_units,
            ])  # fmt: skip

        for one in seed.retrained:
            day = seed.campaigns[one.after - 1].day
            figures_of = _figures(one.audited)
            writer.writerow([seed.seed, "control", one.after, day, *none, *figures_of, one.cost.forward_units, ""])

    return text.getvalue()


def _decision(decision: DecisionResult | None) -> tuple[str, str]:
    if decision is None:
        return "", ""
    return decision.outcome, rests_on(decision.outcome, decision.grounds)


def _figures(audited: Audited) -> list[float | str]:
    return ["" if (value := figure.read(audited)) is None else value for figure in FIGURES]
