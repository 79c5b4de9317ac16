"""What the paper of Forget-MI claims over other methods, asked of a comparison (arXiv 2506.23145)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulations.comparison.results.summary import MEASURED, TOLERANCE, CellPair, Mean, Metric, Row, mean_of, within

CLAIMED = {"mia_svc": -0.202, "forget_auc": -0.221, "forget_f1": -0.305}
"""Forget-MI less the other methods, as the paper has it; its MIA is the share that an SVC calls members."""
METHODS = ("forget_mi_paper", "forget_mi_calibrated")


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure of one form of Forget-MI, against the mean of the other methods that kept test AUC.

    Attributes:
        less: Forget-MI less the others, over seeds; the paper's claim is `CLAIMED`.
        nearer: its distance to the retrained model less theirs; below 0 it is the nearer one.
        keeps_utility: whether its own test AUC is within `TOLERANCE` of retrained.
        others: how many other methods are in the mean.
    """

    row: Row
    metric: Metric
    less: Mean
    nearer: Mean
    keeps_utility: bool
    others: int


def claims(all_rows: Sequence[Row]) -> list[Claim]:
    """Of the rows of one size; without other methods that kept test AUC within `TOLERANCE`, there is nothing to say.

    Forget-MI with its first aggregation alone, as the others have it.
    """
    # The claim is about other methods that work; a destroyed model would win on every figure of forgetting.
    others = [
        r for r in all_rows if r.aggregation and not r.variant and not r.method.startswith("forget_mi") and within(r)
    ]
    if not others:
        return []
    result = []
    for row in all_rows:
        if row.method not in METHODS or row.variant or row.aggregation != others[0].aggregation:
            continue
        for metric in MEASURED:
            if metric.key not in CLAIMED:
                continue
            less = _over_seeds(row, others, lambda pair, metric=metric: metric.read(pair))  # type: ignore[misc]  # a default pins the metric
            nearer = _over_seeds(row, others, lambda pair, metric=metric: _distance(pair, metric))  # type: ignore[misc]  # as above
            if less is not None and nearer is not None:
                result.append(Claim(row, metric, less, nearer, within(row), len(others)))

    return result


def _over_seeds(row: Row, others: Sequence[Row], read: Callable[[CellPair], float | None]) -> Mean | None:
    """Mean over seeds of `read` less the mean of the others' in the same seed."""
    values = []

    for entry in row.pairs:
        ours = read(entry)
        theirs = [
            value
            for other in others
            # Seed by seed, since the same patients revoke from all methods in one seed.
            for one in other.pairs
            if one.cell.cell.seed == entry.cell.cell.seed and (value := read(one)) is not None
        ]
        if ours is not None and theirs:
            values.append(ours - sum(theirs) / len(theirs))

    return mean_of(values, len(row.pairs))


def _distance(pair: CellPair, metric: Metric) -> float | None:
    ours = metric.read(pair)
    theirs = metric.read(CellPair(pair.gold, pair.gold))
    return None if ours is None or theirs is None else abs(ours - theirs)


def verdict(claim: Claim) -> str:
    """`lower`, `not lower` or `open` by the interval of `less`; and so of `nearer`."""
    return f"{_side(claim.less, 'lower', 'higher')}, {_side(claim.nearer, 'nearer', 'farther')}"


def _side(mean: Mean, below: str, above: str) -> str:
    if mean.interval is None:
        return "one seed"
    low, high = mean.interval
    return below if high < 0 else above if low > 0 else f"no clear difference ({below if mean.value < 0 else above})"


def claims_markdown(all_rows: Sequence[Row]) -> list[str]:
    """The lines of a section for one size; none where there is nothing to say."""
    rows = claims(all_rows)
    if not rows:
        return []
    lines = [
        f"Against the mean of the {rows[0].others} other methods within {TOLERANCE} of the test AUC of retrained,",
        "seed by seed.",
        "",
        "| method | figure | less the others | the paper | distance to retrained, less the others’ | reading |",
        "|---|---|---|---|---|---|",
    ]
    for one in rows:
        name = one.row.name if one.keeps_utility else f"{one.row.name}, test AUC not kept"
        claim_text = f"{CLAIMED[one.metric.key]:+.3f}"
        answer = verdict(one)
        lines.append(
            f"| {name} | {one.metric.title} | {_shown(one.less)} | {claim_text} | {_shown(one.nearer)} | {answer} |"
        )

    return lines


def _shown(mean: Mean) -> str:
    if mean.interval is None:
        return f"{mean.value:+.3f}"
    return f"{mean.value:+.3f} [{mean.interval[0]:+.3f}, {mean.interval[1]:+.3f}]"
