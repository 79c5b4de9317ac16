"""Puts charts, tables and words together into the one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from simulations.reporting import answer, tables
from simulations.reporting.cells import Cell, Lookup
from simulations.reporting.charts.cost import draw_cost, ratio, yardstick
from simulations.reporting.charts.drawing import style, to_svg
from simulations.reporting.charts.history import draw_history, has_figures
from simulations.reporting.charts.losses import draw_losses, draw_roc, has_histograms
from simulations.reporting.charts.models import draw_models, margin
from simulations.reporting.charts.rehearsals import draw_rehearsals
from simulations.reporting.palette import BRANCHES, MEANING, MODELS, models_of
from simulations.reporting.template import fill
from simulations.result import Result


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure at the top of the page: before, after, and how to read it."""

    label: str
    before: Cell
    after: Cell
    hint: str


def render(result: Result) -> str:
    """The whole page as HTML; the same result gives the same text."""
    lookup = Lookup(result)
    values = {
        "result": result,
        "question": answer.QUESTION,
        "outcome": answer.outcome_label(result),
        "grounds": answer.grounds(result),
        "headline": answer.headline(result),
        "explanation": answer.explanation(result),
        "cost_sentence": answer.cost_sentence(result),
        "limits": answer.limits(result),
        "ratio": answer.percent(share) if (share := ratio(result)) is not None else None,
        "yardstick": yardstick(result)[0].lower(),
        "margin": f"{margin(result):.2f}",
        "tiles": _tiles(lookup),
        "measured": answer.measured(result),
        "models": [(name, MODELS[name], MEANING[name]) for name in models_of(result)],
        "overview": tables.overview(lookup, measured=answer.measured(result)),
        "branches": [tables.branch_table(lookup, branch) for branch in BRANCHES] if answer.measured(result) else [],
        "baselines": tables.baseline_table(lookup),
        "worth": answer.worth(result),
        "sites": tables.site_table(lookup) if answer.measured(result) else None,
        "data": tables.data_table(lookup),
        "cost": tables.cost_table(lookup),
        "charts": _charts(result),
        "settings": list(_flat(result.config)),
        "missing": tables.missing_table(result) if answer.measured(result) else [],
        "reasons": lookup.reasons,
    }
    return fill("report.html.j2", **values) + "\n"


def _tiles(lookup: Lookup) -> list[Tile]:
    def pair(label: str, hint: str, *path: str) -> Tile:
        before, after = (lookup.cell("models", name, *path) for name in ("original", "unlearned"))
        return Tile(label, before, after, hint)

    fusion_key = ("rehearsals", "branches", "fused")
    first = pair("Attack’s AUC, fused", "0.5 is the aim: a coin toss", "mia", "fused", "auc")
    if not answer.measured(lookup.result) and lookup.result.rehearsals is not None:
        before = lookup.cell(*fusion_key, "original")
        after = lookup.cell(*fusion_key, "difference")
        first = Tile("Rehearsed patients, fused", before, after, "beyond never-seen ones; 0 is the aim")

    return [
        first,
        pair("Test AUC", "higher is better", "test", "auc"),
        pair("Test cross-entropy", "nats, lower is better", "test", "ce_mean"),
    ]


def _charts(result: Result) -> dict[str, Markup]:
    rehearsals = result.rehearsals
    is_measured = answer.measured(result)
    figures_of: dict[str, tuple[bool, Callable[[Result], Figure], str]] = {
        "rehearsals": (
            rehearsals is not None,
            lambda result: draw_rehearsals(result.rehearsals) if result.rehearsals else Figure(),
            "Differences of rehearsed patients from never-seen ones by branch, before and after, and the distances of "
            "all rehearsals with that of this campaign; the figures are in the list of grounds.",
        ),
        "models": (is_measured, draw_models, _models_label(result)),
        "losses": (
            is_measured and has_histograms(result),
            draw_losses,
            "Densities of the loss of forget, never-seen and retain patients, before and after unlearning, by branch.",
        ),
        "roc": (
            is_measured and has_histograms(result),
            draw_roc,
            "Curves of the membership attack by branch, a line per model, from binned counts.",
        ),
        "history": (
            has_figures(result),
            draw_history,
            "Cross-entropy, validation AUC and calibration AUC over the rounds of training, unlearning and retention.",
        ),
        "cost": (
            bool(result.cost),
            draw_cost,
            f"{answer.cost_sentence(result)} Bars of work, time and traffic; the figures are in the table below.",
        ),
    }
    charts = {}

    for name, (present, draw, label) in figures_of.items():
        if present:
            with style(salt=name):
                charts[name] = Markup(to_svg(draw(result), label))  # noqa: S704  # drawn by us, texts escaped by matplotlib

    return charts


def _models_label(result: Result) -> str:
    paragraphs = []
    for name in models_of(result):
        mia = {b: m.auc for b, m in result.models[name].mia.items() if m.auc is not None}
        values = ", ".join(f"{BRANCHES[b].lower()} {auc:.2f}" for b, auc in mia.items())
        paragraphs.append(f"{MODELS[name]}: {values or 'not available'}.")

    return "Membership inference AUC by model and branch, with intervals. " + " ".join(paragraphs)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
