"""The tables of a stream, from its record alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulations.comparison.results.tables import DASH, shown
from simulations.result import Branch
from simulations.stream.record import SeedRecord, StreamRecord
from simulations.stream.results import outcomes, summary
from simulations.stream.results.named_table import Named
from simulations.stream.results.summary import BEFORE, FIGURES, Later

BRANCHES: tuple[Branch, ...] = ("fused", "image", "text")
TERM = 6
"""Campaigns in a row of the table that asks whether memory grows."""
LAGS: tuple[tuple[str, int, int], ...] = (
    ("before their campaign", BEFORE, BEFORE),
    ("after their campaign", 0, 0),
    ("1 to 3 campaigns later", 1, 3),
    ("4 to 7", 4, 7),
    ("8 to 12", 8, 12),
    ("13 and more", 13, 10**6),
)


def tables_of(record: StreamRecord) -> list[Named]:
    """All tables except the histories."""
    tables = [
        outcomes.outcomes_table(record),
        _ends(record),
        _creep(record),
        _unlearned(record),
        _memory(record),
        _over_time(record),
        _leaving(record),
        _waiting(record),
        _cost(record),
    ]
    return [table for table in tables if table.rows]


def histories(record: StreamRecord) -> list[Named]:
    """A table of all campaigns for each seed."""
    return [_history(seed) for seed in record.seeds]


def number(value: float | None, form: str = "{:.3f}") -> str:
    """Format a number, or a dash if it is missing."""
    return DASH if value is None else form.format(value)


def _ends(record: StreamRecord) -> Named:
    ends = summary.ends(record)
    rows: list[tuple[str, ...]] = []

    for end in ends:
        rows.append((f"seed {end.seed}: original", *(number(f.read(end.original)) for f in FIGURES)))
        rows.append((f"seed {end.seed}: stream", *(number(f.read(end.last)) for f in FIGURES)))
        rows.append((f"seed {end.seed}: retrained", *(number(f.read(end.control)) for f in FIGURES)))

    if ends:
        since = (_shift([summary.less(f, end.last, end.original) for end in ends]) for f in FIGURES)
        beside = (_shift([end.difference(f) for end in ends]) for f in FIGURES)
        rows += [("mean, less original", *since), ("mean, less retrained", *beside)]

    titles, aims = (tuple(getattr(f, name) for f in FIGURES) for name in ("title", "aim"))

    return Named(
        "At the end, beside the original and the model retrained there; MIA of all who were forgotten",
        titles,
        aims,
        tuple(rows),
        "model",
    )


def _creep(record: StreamRecord) -> Named:
    seeds = [seed for seed in record.seeds if seed.finished and len(summary.gaps(seed, FIGURES[0])) > 1]
    gaps = [[summary.gaps(seed, figure) for seed in seeds] for figure in FIGURES]
    inner = sorted({after for seed, by in zip(seeds, gaps[0], strict=True) for after in by if after < seed.planned})
    rows: list[tuple[str, ...]] = []

    if seeds:
        rows = [(f"after {after}", *(_shift([by.get(after) for by in of]) for of in gaps)) for after in inner]
        for name, read in (
            ("at the end", lambda seed, figure: summary.gaps(seed, figure).get(seed.planned)),
            ("the end less the first", summary.creep),
            ("the stream alone, in ten campaigns", summary.trend),
        ):
            rows.append((name, *(_shift([read(seed, figure) for seed in seeds]) for figure in FIGURES)))

    return Named(
        "Does the model creep away? Less the model that was retrained at the same time, mean over seeds [95 %]; last "
        "row: least squares over the models since the last hospital left",
        tuple(figure.title for figure in FIGURES),
        ("0 is the aim",) * len(FIGURES),
        tuple(rows),
        "campaigns",
    )


def _shift(values: Sequence[float | None]) -> str:
    return shown(summary.mean_of(values), "{:+.3f}")


def _unlearned(record: StreamRecord) -> Named:
    rows: list[tuple[str, ...]] = []
    differences: dict[Branch, list[float | None]] = {branch: [] for branch in BRANCHES}

    for seed in record.seeds:
        control = seed.at_end
        if not seed.finished or control is None:
            continue
        ours = {b: summary.only_unlearned(seed, seed.campaigns[-1].audited, b) for b in BRANCHES}
        theirs = {b: summary.only_unlearned(seed, control.audited, b) for b in BRANCHES}
        rows.append((f"seed {seed.seed}: stream", *(number(ours[b]) for b in BRANCHES)))
        rows.append((f"seed {seed.seed}: retrained", *(number(theirs[b]) for b in BRANCHES)))

        for b in BRANCHES:
            mine = ours[b]
            gold = theirs[b]
            differences[b].append(None if mine is None or gold is None else mine - gold)

    if rows:
        rows.append(("mean, less retrained", *(_shift(differences[b]) for b in BRANCHES)))
    return Named(
        "MIA at the end of those alone who were unlearned since the last hospital left",
        tuple(f"MIA, {b}" for b in BRANCHES),
        ("as retrained",) * 3,
        tuple(rows),
        "model",
    )


def _memory(record: StreamRecord) -> Named:
    cohorts = summary.later(record)
    rows: list[tuple[str, ...]] = []

    for name, least, most in LAGS:
        here = [one for one in cohorts if least <= one.lag <= most]
        if here:
            change = summary.by_group(here, lambda one: one.now.rank["fused"] - one.after.rank["fused"])
            rows.append((name, str(_groups(here)), *_ranks(here), shown(change, "{:+.3f}")))

    return Named(
        "Do they come back? MIA of the groups that one campaign unlearned, less that of the same patients in the model "
        "retrained at the end, by campaigns since then; mean over groups [95 %]",
        ("groups", *(f"MIA, {b}" for b in BRANCHES), "fused, change since their campaign"),
        ("", *("0 is the aim",) * 3, "0: they do not come back"),
        tuple(rows),
        "model",
    )


def _over_time(record: StreamRecord) -> Named:
    cohorts = summary.later(record)
    rows: list[tuple[str, ...]] = []

    for first, last in summary.terms(record, TERM):
        for name, lag in (("before", BEFORE), ("after", 0)):
            here = [one for one in cohorts if first <= one.campaign <= last and one.lag == lag]
            if here:
                rows.append((f"{first} to {last}: {name}", str(_groups(here)), *_ranks(here)))

    return Named(
        "Does the memory grow? MIA of those whom a campaign forgets, less that of the same patients in the model "
        "retrained at the end, before and after their campaign; mean over groups [95 %]",
        ("groups", *(f"MIA, {b}" for b in BRANCHES)),
        ("", *("0 is the aim",) * 3),
        tuple(rows),
        "campaigns",
    )


def _groups(here: Sequence[Later]) -> int:
    return len({(one.seed, one.campaign) for one in here})


def _ranks(here: Sequence[Later]) -> tuple[str, ...]:
    means = (summary.by_group(here, lambda one, b=b: summary.beyond(one, b)) for b in BRANCHES)  # type: ignore[misc]  # a default pins the branch
    return tuple(shown(mean, "{:+.3f}") for mean in means)


def _leaving(record: StreamRecord) -> Named:
    rows = []
    for seed in record.seeds:
        models = seed.models
        for c in seed.campaigns:
            if c.leaving:
                aucs = [FIGURES[0].read(models[at]) for at in (c.number - 1, c.number)]
                groups = (c.before, c.audited.cohort(c.number))
                ranks = [None if group is None else group.rank["fused"] for group in groups]
                rows.append((
                    f"seed {seed.seed}: {c.leaving}", f"{c.day:.0f}", str(c.number), str(sum(c.patients.values())),
                    *map(number, aucs), *map(number, ranks), f"{100 * c.cost.forward_units / c.retraining_units:.0f} %",
                ))  # fmt: skip

    head = (
        "day", "campaign", "patients", "test AUC before", "after", "MIA before", "after", "cost, of retraining",
    )  # fmt: skip

    return Named(
        "The hospital that left: a model was trained without it; test AUC at those that stay, fused MIA of the batch",
        head,
        ("",) * len(head),
        tuple(rows),
        "hospital",
    )


def _waiting(record: StreamRecord) -> Named:
    rows = []
    for seed in record.seeds:
        if seed.campaigns:
            days_left = [c.days_left for c in seed.campaigns]
            why = Counter(c.reason for c in seed.campaigns)
            rows.append((
                f"seed {seed.seed}", str(len(days_left)), str(sum(sum(c.patients.values()) for c in seed.campaigns)),
                ", ".join(f"{reason}: {times}" for reason, times in why.items()),
                f"{sum(days_left) / len(days_left):.0f}", f"{min(days_left):.0f}",
                str(sum(days < 0 for days in days_left)),
            ))  # fmt: skip

    head = (
        "campaigns", "patients", "why they started", "days left, mean", "fewest", "too late",
    )  # fmt: skip

    return Named(
        "How long they waited: days from a campaign to the first due date in it, a calendar month after the receipt",
        head,
        ("",) * len(head),
        tuple(rows),
        "seed",
    )


def _cost(record: StreamRecord) -> Named:
    rows = []
    for seed in record.seeds:
        if not seed.campaigns:
            continue
        ours, instead = (values[-1] for values in summary.spent(seed))
        campaigns = [c for c in seed.campaigns if c.how == "unlearned"]
        per = (
            sum(c.cost.forward_units for c in campaigns) / sum(c.retraining_units for c in campaigns)
            if campaigns
            else None
        )
        control = seed.at_end
        ratio = f"{control.cost.forward_units / summary.reckoned(seed, control):.2f}" if control is not None else DASH
        rows.append((
            f"seed {seed.seed}", f"{ours:,.0f}", f"{seed.folds_cost.forward_units if seed.folds_cost else 0:,.0f}",
            f"{seed.qualification.cost.forward_units if seed.qualification else 0:,.0f}",
            f"{instead:,.0f}", f"{100 * ours / instead:.0f} %",
            f"{100 * ours / summary.monthly(seed):.0f} %",
            DASH if per is None else f"{100 * per:.0f} %", ratio,
            f"{sum(c.seconds for c in seed.campaigns) / len(seed.campaigns):.0f} s",
        ))  # fmt: skip

    head = (
        "all campaigns, fold models and rehearsals", "of it fold models", "of it rehearsals",
        "retraining each time instead", "share", "share of monthly retrainings", "share, without hospitals that left",
        "retraining at the end: measured / reckoned", "a campaign with its audits",
    )  # fmt: skip

    return Named(
        "Cost in forward units: a forward of one study is 1, a backward 2", head, ("",) * len(head), tuple(rows), "seed"
    )


def _history(seed: SeedRecord) -> Named:
    ours, instead = summary.spent(seed)
    rows = [
        (
            str(c.number), f"{c.day:.0f}", str(sum(c.patients.values())), str(len(c.patients)), f"{c.days_left:.0f}",
            f"{c.how}, {c.leaving} left" if c.leaving else c.how, c.decision.outcome if c.decision else DASH,
            *(number(f.read(c.audited)) for f in FIGURES[:1] + FIGURES[2:6]), f"{100 * units / whole:.0f} %",
        )
        for c, units, whole in zip(seed.campaigns, ours, instead, strict=True)
    ]  # fmt: skip
    head = (
        "day", "patients", "hospitals", "days left", "how", "the evaluator",
        *(f.title for f in FIGURES[:1] + FIGURES[2:6]), "cost so far, of retraining each time",
    )  # fmt: skip
    return Named(f"Seed {seed.seed}: every campaign", head, ("",) * len(head), tuple(rows), "campaign")
