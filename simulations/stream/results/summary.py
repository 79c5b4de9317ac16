"""Derived figures of a stream: differences to the retrained model, cost, and whether forgotten patients come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from simulations.comparison.results.summary import Mean
from simulations.equivalence import interval, reading
from simulations.result import Branch
from simulations.run.study import mean_interval
from simulations.stream.record import Audited, ForgottenCohort, Retrained, SeedRecord, StreamRecord

Read = Callable[[Audited], float | None]

MONTH_DAYS = 365.0 / 12
BEFORE = -1
"""As a lag: the model before the campaign that forgot them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A column. `aim` says what is good."""

    title: str
    aim: str
    read: Read


def _mia(branch: Branch) -> Read:
    return lambda audited: audited.mia[branch].auc


FIGURES: tuple[Figure, ...] = (
    Figure("test AUC", "as retrained", lambda a: a.test.auc),
    Figure("test F1", "as retrained", lambda a: a.test.f1),
    Figure("test cross-entropy", "as retrained", lambda a: a.test.ce_mean),
    Figure("MIA, fused", "as retrained, .5 cannot tell", _mia("fused")),
    Figure("MIA, image", "as retrained", _mia("image")),
    Figure("MIA, text", "as retrained", _mia("text")),
    Figure("forgotten patients’ AUC", "as retrained", lambda a: a.forgotten.auc),
)
"""MIA (loss AUC of all who were forgotten) never stands without utility: a destroyed model has not forgotten."""
TEST_AUC = FIGURES[0]
MIA = FIGURES[3]


@dataclass(frozen=True, slots=True)
class End:
    """The first and the last model of a seed and the one retrained beside it, all audited on the same patients."""

    seed: int
    campaigns: int
    forgotten: int
    original: Audited
    last: Audited
    control: Audited

    def difference(self, figure: Figure) -> float | None:
        """Of the stream's model less that of the retrained one."""
        return less(figure, self.last, self.control)


def less(figure: Figure, ours: Audited, theirs: Audited) -> float | None:
    """The figure of one model less that of another."""
    own = figure.read(ours)
    other = figure.read(theirs)
    return None if own is None or other is None else own - other


def ends(record: StreamRecord) -> list[End]:
    """Of the seeds that came to their end."""
    return [
        End(
            seed.seed,
            seed.planned,
            sum(sum(campaign.patients.values()) for campaign in seed.campaigns),
            seed.original,
            seed.campaigns[-1].audited,
            control.audited,
        )
        for seed in record.seeds
        if seed.finished and (control := seed.at_end) is not None and seed.campaigns
    ]


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """Over those that are known; the interval needs two."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    mean, low, high = mean_interval(numbers)

    return Mean(mean, (low, high) if len(numbers) > 1 else None, len(numbers), len(values))


def verdict(record: StreamRecord) -> list[str]:
    """A sentence for each seed, and one for all."""
    aims = {TEST_AUC.title: float(record.config["auc_aim"]), MIA.title: float(record.config["mia_aim"])}
    end_figures = ends(record)
    lines = []

    for end in end_figures:
        parts = []
        for figure in (TEST_AUC, MIA):
            ours = figure.read(end.last)
            theirs = figure.read(end.control)
            off = end.difference(figure)
            if ours is not None and theirs is not None and off is not None:
                parts.append(f"{figure.title} {ours:.3f} beside {theirs:.3f} ({off:+.3f})")

        lines.append(
            f"Seed {end.seed}: after {end.campaigns} campaigns and {end.forgotten} patients {' and '.join(parts)}."
        )

    waiting = [seed for seed in record.seeds if not seed.finished]
    lines += [f"Seed {s.seed}: {len(s.campaigns)} of {s.planned} campaigns so far." for s in waiting]

    if len(end_figures) > 1:
        means = [
            f"{figure.title} {mean:+.3f} [90 %: {low:+.3f}, {high:+.3f}], equivalence within {aims[figure.title]:g} "
            f"{reading(values, aims[figure.title])}"
            for figure in (TEST_AUC, MIA)
            if (values := [off for end in end_figures if (off := end.difference(figure)) is not None])
            for mean, low, high in (interval(values),)
        ]
        lines.append(f"Mean difference to retrained over {len(end_figures)} seeds: {'; '.join(means)}.")

    crept = [
        f"{figure.title} {shift.value:+.3f}"
        + ("" if shift.interval is None else f" [{shift.interval[0]:+.3f}, {shift.interval[1]:+.3f}]")
        for figure in (TEST_AUC, MIA)
        if (shift := mean_of([creep(seed, figure) for seed in record.seeds])) is not None
    ]
    if crept:
        lines.append(
            f"By so much the difference grew since the first comparison (0: nothing crept): {', '.join(crept)}."
        )

    return lines


def anew(seed: SeedRecord) -> int:
    """Number of the last campaign that trained a new model, because a hospital left; 0 for the original."""
    return max((c.number for c in seed.campaigns if c.how == "retrained"), default=0)


def gaps(seed: SeedRecord, figure: Figure) -> dict[int, float]:
    """A figure less that of the model retrained at the same time, by campaign, since the last model trained anew."""
    differences = {
        one.after: less(figure, seed.campaigns[one.after - 1].audited, one.audited) for one in seed.retrained
    }
    # A model that was trained anew has no drift behind it: gaps count from there.
    return {after: gap for after, gap in differences.items() if after > anew(seed) and gap is not None}


def creep(seed: SeedRecord, figure: Figure) -> float | None:
    """The last of `gaps` less the first; None if there is but one, or the stream has not come to its end."""
    differences = gaps(seed, figure)
    if seed.at_end is None or len(differences) < 2:
        return None
    return differences[max(differences)] - differences[min(differences)]


def trend(seed: SeedRecord, figure: Figure) -> float | None:
    """Change over ten campaigns, by least squares over the models since the last one trained anew; needs three."""
    models = seed.models[anew(seed) :]
    points = [(at, value) for at, model in enumerate(models) if (value := figure.read(model)) is not None]
    if not seed.finished or len(points) < 3:
        return None
    numbers, values = zip(*points, strict=True)

    return 10 * linear_regression(numbers, values).slope


@dataclass(frozen=True, slots=True)
class Later:
    """A group that one campaign unlearned, as the model so many campaigns later treats it."""

    seed: int
    campaign: int
    lag: int
    now: ForgottenCohort
    after: ForgottenCohort
    """Right after its own campaign."""
    control: ForgottenCohort | None
    """At the end of the stream."""


def beyond(one: Later, branch: Branch) -> float | None:
    """MIA of a group less that of the same patients in the retrained model: the group's own chance is in both."""
    return None if one.control is None else one.now.rank[branch] - one.control.rank[branch]


def terms(record: StreamRecord, width: int) -> list[tuple[int, int]]:
    """The campaigns of a stream in stretches of `width`, the last one longer."""
    most = max((len(seed.campaigns) for seed in record.seeds), default=0)
    # A short rest joins the stretch before it.
    firsts = list(range(1, max(2, most - width // 2 + 1), width))
    return [(first, first + width - 1) for first in firsts[:-1]] + [(firsts[-1], most)]


def later(record: StreamRecord) -> list[Later]:
    """Of every unlearned group and every later model; none beyond a retraining, which forgets by itself."""
    return [later_cohort for seed in record.seeds for later_cohort in _later(seed)]


def _later(seed: SeedRecord) -> Iterator[Later]:
    control = seed.at_end
    for own in seed.campaigns:
        after = own.audited.cohort(own.number)
        if own.how != "unlearned" or after is None:
            continue
        gold = control.audited.cohort(own.number) if control else None
        if own.before is not None:
            yield Later(seed.seed, own.number, BEFORE, own.before, after, gold)
        for model in seed.campaigns[own.number - 1 :]:
            if model.how == "retrained":
                break
            now = model.audited.cohort(own.number)
            if now is not None:
                yield Later(seed.seed, own.number, model.number - own.number, now, after, gold)


def by_group(cohorts: Sequence[Later], read: Callable[[Later], float | None]) -> Mean | None:
    """Mean over groups, each with the mean of its own values: groups are what is independent, not models."""
    values: dict[tuple[int, int], list[float]] = defaultdict(list)

    for one in cohorts:
        value = read(one)
        if value is not None:
            values[one.seed, one.campaign].append(value)

    return mean_of([sum(own) / len(own) for own in values.values()])


def only_unlearned(seed: SeedRecord, audited: Audited, branch: Branch) -> float | None:
    """MIA of those whom no retraining helped to forget: patients unlearned after the last hospital left."""
    cohorts = [one for one in audited.cohorts if one.campaign > anew(seed)]
    total = sum(one.patients for one in cohorts)
    return sum(one.patients * one.rank[branch] for one in cohorts) / total if total else None


def spent(seed: SeedRecord) -> tuple[list[float], list[float]]:
    """Cumulative forward units after each campaign: as it was, and with a retraining each time instead.

    The fold models, without which unlearning has no targets of its own, and the rehearsals count from the start;
    retraining needs neither.
    """
    rehearsals = seed.qualification.cost.forward_units if seed.qualification else 0.0
    ours = [(seed.folds_cost.forward_units if seed.folds_cost else 0.0) + rehearsals]
    instead = [0.0]
    for campaign in seed.campaigns:
        ours.append(ours[-1] + campaign.cost.forward_units)
        instead.append(instead[-1] + campaign.retraining_units)

    return ours[1:], instead[1:]


def monthly(seed: SeedRecord) -> float:
    """Forward units of one retraining in each month that had a campaign, without all who were forgotten by then."""
    # The last campaign of a month wins: one retraining then leaves out all who revoked until then.
    last_of_month = {int(campaign.day // MONTH_DAYS): campaign.retraining_units for campaign in seed.campaigns}
    return sum(last_of_month.values())


def reckoned(seed: SeedRecord, control: Retrained) -> float:
    """What `retraining_units` said of a retraining that was then done."""
    return next(c.retraining_units for c in seed.campaigns if c.number == control.after)
