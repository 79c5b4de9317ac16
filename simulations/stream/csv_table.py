"""The figures of a stream as CSV, for other programs."""

from __future__ import annotations

import csv
import io

from simulations.stream.record import Audited, StreamRecord
from simulations.stream.summary import FIGURES


def to_csv(record: StreamRecord) -> str:
    """A row for every model: the original, the model after each campaign, and each retrained control."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("test_auc", "test_f1", "test_ce", "mia_fused", "mia_image", "mia_text", "forgotten_auc")
    writer.writerow([
        "seed", "model", "campaign", "day", "patients", "hospitals", "days_left", "reason", "leaving", "decision",
        *figures, "forward_units", "retraining_units",
    ])  # fmt: skip

    for seed in record.seeds:
        none = [""] * 6
        writer.writerow(
            [seed.seed, "original", 0, 0, *none, *_figures(seed.original), seed.original_cost.forward_units, ""]
        )

        for c in seed.campaigns:
            writer.writerow([
                seed.seed, c.how, c.number, c.day, sum(c.patients.values()), len(c.patients), c.days_left, c.reason,
                c.leaving, c.decision.outcome if c.decision else "", *_figures(c.audited), c.cost.forward_units,
                c.retraining_units,
            ])  # fmt: skip

        for one in seed.retrained:
            day = seed.campaigns[one.after - 1].day
            figures_of = _figures(one.audited)
            writer.writerow([seed.seed, "control", one.after, day, *none, *figures_of, one.cost.forward_units, ""])

    return text.getvalue()


def _figures(audited: Audited) -> list[float | str]:
    return ["" if (value := figure.read(audited)) is None else value for figure in FIGURES]
