"""From the results of cells to the rows of a table: means over seeds with intervals, and differences to retrained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulations.comparison.cell_result import CellResult
from simulations.comparison.plan import ORIGINAL, RETRAINED
from simulations.run.study import mean_interval

TOLERANCE = 0.03
"""Test AUC within it of retrained: what a method must keep to be ranked by how well it forgot."""
CALIBRATED = "forget_mi_calibrated"


@dataclass(frozen=True, slots=True)
class Mean:
    """Over `seeds` values `of` so many seeds; the 95 % interval (Student's t) needs two."""

    value: float
    interval: tuple[float, float] | None
    seeds: int
    of: int


@dataclass(frozen=True, slots=True)
class CellPair:
    """A cell beside the retrained model of its seed and size."""

    cell: CellResult
    gold: CellResult


@dataclass(frozen=True, slots=True)
class Metric:
    """A column. `aim` says what is good; `read` gives None where it cannot be computed."""

    key: str
    title: str
    aim: str
    read: Callable[[CellPair], float | None]
    form: str = "{:.3f}"


def gap(pair: CellPair) -> float | None:
    """Distance to retrained in what forgetting is about: mean of |MIA loss AUC| and |forget AUC| differences, fused."""
    ours = pair.cell.model
    theirs = pair.gold.model
    pairs = ((ours.mia["fused"].auc, theirs.mia["fused"].auc), (ours.forget.auc, theirs.forget.auc))
    differences = [abs(a - b) for a, b in pairs if a is not None and b is not None]

    # Half a gap would look small, so both figures or none.
    return sum(differences) / 2 if len(differences) == 2 else None


def share(name: str) -> Callable[[CellPair], float | None]:
    """Cost over that of retraining, in %; nothing for original and retrained."""

    def read(pair: CellPair) -> float | None:
        whole = getattr(pair.gold.cost, name)
        return 100 * getattr(pair.cell.cost, name) / whole if pair.cell.cell.aggregation and whole else None

    return read


def _traffic(pair: CellPair) -> float | None:
    ours, whole = (c.cost.bytes_up + c.cost.bytes_down for c in (pair.cell, pair.gold))
    return 100 * ours / whole if pair.cell.cell.aggregation and whole else None


def _folds(pair: CellPair) -> float | None:
    """Cost of the fold models over that of retraining, in %, once a lineage."""
    whole = pair.gold.cost.forward_units
    folds = pair.cell.folds_cost
    return 100 * folds.forward_units / whole if folds is not None and whole else None


MEASURED: tuple[Metric, ...] = (
    Metric("mia_svc", "MIA (SVC share)", "as retrained", lambda s: s.cell.model.mia["fused"].svc),
    Metric("mia_auc", "MIA (loss AUC)", "as retrained, .5 cannot tell", lambda s: s.cell.model.mia["fused"].auc),
    Metric("forget_auc", "forget AUC", "as retrained", lambda s: s.cell.model.forget.auc),
    Metric("forget_f1", "forget F1", "as retrained", lambda s: s.cell.model.forget.f1),
    Metric("test_auc", "test AUC", "higher is better", lambda s: s.cell.model.test.auc),
    Metric("test_f1", "test F1", "higher is better", lambda s: s.cell.model.test.f1),
    Metric("test_ce", "test cross-entropy", "lower is better", lambda s: s.cell.model.test.ce_mean),
    Metric("gap", "gap to retrained", "lower is better", gap),
    Metric("distance", "1 - cosine to retrained", "lower is better", lambda s: s.cell.model.distance_to_retrained),
)
"""The table of the paper. MIA is never without test AUC and cross-entropy: a destroyed model has not forgotten."""

BRANCHES: tuple[Metric, ...] = (
    *(Metric(f"mia_auc_{b}", f"MIA {b} (loss AUC)", "as retrained", lambda s, b=b: s.cell.model.mia[b].auc)  # type: ignore[misc]  # a default pins the branch
      for b in ("image", "text")),
    Metric("calibrated", "calibrated rank, fused", "as retrained", lambda s: s.cell.model.mia["fused"].calibrated),
    MEASURED[4],
    MEASURED[6],
)  # fmt: skip
"""Branches that a fused figure could hide, and the attack that takes difficulty into account."""

COST: tuple[Metric, ...] = (
    Metric("cost_passes", "sample passes, %", "lower is better", share("forward_units"), "{:.1f}"),
    Metric("cost_folds", "fold models, once a lineage, %", "not in the column before", _folds, "{:.0f}"),
    Metric("cost_bytes", "bytes, %", "lower is better", _traffic, "{:.1f}"),
    Metric("cost_seconds", "seconds, %", "lower is better", share("seconds"), "{:.1f}"),
)
"""Against retraining."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method with one aggregation at one size, over seeds."""

    method: str
    aggregation: str
    size: float
    pairs: tuple[CellPair, ...]
    variant: str = ""

    @property
    def name(self) -> str:
        """As shown: the aggregation only beside Forget-MI, which alone is run with several."""
        if self.variant:
            return f"{self.method}, {self.variant}"
        return f"{self.method} ({self.aggregation})" if self.method.startswith("forget_mi") else self.method

    def mean(self, read: Callable[[CellPair], float | None]) -> Mean | None:
        """Over the seeds in which it could be computed."""
        return mean_of([value for entry in self.pairs if (value := read(entry)) is not None], len(self.pairs))


def mean_of(values: Sequence[float], of: int) -> Mean | None:
    """Over the values that `of` seeds gave; None without any."""
    if not values:
        return None
    mean, low, high = mean_interval(list(values))
    return Mean(mean, (low, high) if len(values) > 1 else None, len(values), of)


def rows(results: Iterable[CellResult]) -> list[Row]:
    """One for each method, aggregation and size: original and retrained, methods by name, then their variants.

    Cells without a retrained model of their seed and size are left out: they wait for it.
    """
    cell_results = list(results)
    gold = {(r.cell.seed, r.cell.size): r for r in cell_results if r.cell.method == RETRAINED}
    groups: dict[tuple[float, int, str, str, str], list[CellPair]] = defaultdict(list)

    for result in cell_results:
        cell = result.cell
        if (cell.seed, cell.size) in gold:
            rank = {ORIGINAL: 0, RETRAINED: 1}.get(cell.method, 3 if cell.variant else 2)
            groups[cell.size, rank, cell.method, cell.aggregation, cell.variant].append(
                CellPair(result, gold[cell.seed, cell.size])
            )

    return [
        Row(method, aggregation, size, tuple(entries), variant)
        for (size, _, method, aggregation, variant), entries in sorted(groups.items(), key=lambda item: item[0])
    ]


def at(all_rows: Sequence[Row], size: float) -> list[Row]:
    """Rows of one size."""
    return [row for row in all_rows if row.size == size]


def drawn(all_rows: Sequence[Row]) -> list[Row]:
    """Rows for charts: without variants, of which the tables tell."""
    return [row for row in all_rows if not row.variant]


def sizes(all_rows: Sequence[Row]) -> list[float]:
    """All sizes, from the smallest."""
    return sorted({row.size for row in all_rows})


@dataclass(frozen=True, slots=True)
class Place:
    """A method in the ranking."""

    row: Row
    gap: Mean
    auc_loss: float
    """Mean of the retrained model's test AUC less its own."""


def ranking(all_rows: Sequence[Row]) -> tuple[list[Place], list[str]]:
    """Methods that kept test AUC by the smallest gap, and the names of those that did not keep it, or have no gap."""
    places = []
    others = []

    for row in all_rows:
        if not row.aggregation or row.variant:
            continue
        loss = row.mean(_lost)
        distance = row.mean(gap)

        if loss is None or distance is None or not within(row):
            others.append(row.name)
        else:
            places.append(Place(row, distance, loss.value))

    return sorted(places, key=lambda place: place.gap.value), others


def within(row: Row) -> bool:
    """Whether mean test AUC is no more than `TOLERANCE` below that of retrained."""
    loss = row.mean(_lost)
    # Losing is what counts: a better test AUC than retrained's is no fault.
    return loss is not None and loss.value <= TOLERANCE


def _lost(pair: CellPair) -> float | None:
    ours = pair.cell.model.test.auc
    theirs = pair.gold.model.test.auc
    return None if ours is None or theirs is None else theirs - ours


def verdict(all_rows: Sequence[Row]) -> str:
    """Whether calibrated Forget-MI is first, in a sentence."""
    places, others = ranking(all_rows)
    out = (
        f" Not ranked, as test AUC fell by more than {TOLERANCE} or no gap is known: {', '.join(others)}."
        if others
        else ""
    )
    if not places:
        return f"No method kept test AUC within {TOLERANCE} of retrained.{out}"
    first = places[0]
    text = f"Smallest gap to retrained among methods within {TOLERANCE} of its test AUC: "
    text += f"{first.row.name}, {first.gap.value:.3f}."

    for number, place in enumerate(places[1:], start=2):
        if place.row.method == CALIBRATED:
            inside = first.gap.interval is not None and place.gap.value <= first.gap.interval[1]
            text += f" {place.row.name} is number {number} with {place.gap.value:.3f}, "
            text += "within the interval of the first." if inside else "beyond the interval of the first."

    return text + out


def by_class(row: Row) -> dict[str, Mean | None]:
    """Test AUC less that of retrained, of each class."""
    return _differences(row, row.pairs[0].cell.test_auc_by_class, lambda cell: cell.test_auc_by_class)


def by_other_hospital(row: Row) -> dict[str, Mean | None]:
    """Test AUC less that of retrained, at each hospital where nobody revoked."""
    first = row.pairs[0].cell
    names = [name for name in first.model.test_auc_by_site if name not in first.forget_sites]
    return _differences(row, names, lambda cell: cell.model.test_auc_by_site)


def _differences(
    row: Row, names: Iterable[str], read: Callable[[CellResult], Mapping[str, float | None]]
) -> dict[str, Mean | None]:
    return {
        name: row.mean(lambda pair, name=name: _less(read(pair.cell).get(name), read(pair.gold).get(name)))  # type: ignore[misc]  # a default pins the name
        for name in names
    }


def _less(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs
