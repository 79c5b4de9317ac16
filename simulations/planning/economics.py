"""Trainings a year, waits and limits of each way to forget. Pure.

Revocations are a Poisson process. Work is counted in trainings of the federation's model.
"""

from __future__ import annotations

from math import exp
from typing import Literal

from pydantic import BaseModel, ConfigDict

from common.learning.evaluation.sample_size.whole_power import NEEDED
from simulations.planning.numbers import (
    LEAST_CONTROLS,
    LEAST_CONTROLS_OF_SITE,
    MONTH_DAYS,
    FederationNumbers,
)

WayName = Literal["own", "qualified", "retrain each", "retrain monthly", "retrain at the deadline"]


class Way(BaseModel):
    """One way to forget.

    Attributes:
        name: the way.
        reachable: whether it can be used at all.
        why_not: what is missing, with the number.
        fixed: trainings a year that do not depend on the revocations.
        running: trainings a year that the revocations cost.
        wait: days from a revocation to the model without the patient, in the mean.
        longest_wait: the same for whoever waits longest.
    """

    model_config = ConfigDict(frozen=True)

    name: WayName
    reachable: bool = True
    why_not: str = ""
    fixed: float
    running: float
    wait: float
    longest_wait: float

    @property
    def trainings(self) -> float:
        """A year, in all."""
        return self.fixed + self.running


class Plan(BaseModel):
    """All ways, the cheapest one, and from how many revocations a month a qualification pays."""

    model_config = ConfigDict(frozen=True)

    numbers: FederationNumbers
    ways: tuple[Way, ...]
    cheapest: WayName
    break_even: dict[WayName, float | None]
    """Revocations a month from which a qualification is cheaper than this way; None where it never is."""


def plan(numbers: FederationNumbers) -> Plan:
    """Compute all ways."""
    ways = ways_of(numbers)
    reachable = [way for way in ways if way.reachable and way.longest_wait <= numbers.deadline_days]
    # Retraining at once for each is always there, however dear: it is what the law leaves if nothing else is in time.
    cheapest = min(reachable or [way for way in ways if way.name == "retrain each"], key=lambda way: way.trainings)
    others = tuple(way.name for way in ways if way.name.startswith("retrain"))

    return Plan(
        numbers=numbers,
        ways=ways,
        cheapest=cheapest.name,
        break_even={name: _break_even(numbers, name) for name in others},
    )


def ways_of(numbers: FederationNumbers) -> tuple[Way, ...]:
    """Each way, reachable or not."""
    return (_own(numbers), _qualified(numbers), _each(numbers), _monthly(numbers), _at_the_deadline(numbers))


def fold_trainings(models: int) -> float:
    """Trainings that so many fold models cost: each learns from all patients but its own fold."""
    # n models learn from (n - 1) / n of the patients each.
    return float(models - 1) if models > 1 else 0.0


def batches(numbers: FederationNumbers, window: float) -> float:
    """A year, if the first revocation waits `window` days and all that come meanwhile join it."""
    return 365.0 / (window + 1 / numbers.a_day)


def mean_wait(numbers: FederationNumbers, window: float) -> float:
    """Days in such a batch: the first waits for all of it, the others for half in the mean."""
    joining = numbers.a_day * window
    return (window + joining * window / 2) / (1 + joining)


def _own(numbers: FederationNumbers) -> Way:
    needs = NEEDED
    days = needs / numbers.a_day
    missing = []
    if days > numbers.longest_wait:
        missing.append(
            f"{needs} patients have to be forgotten at once, which takes {days:.0f} days to collect, and "
            f"{numbers.longest_wait:.0f} are left before the first date"
        )
    if numbers.never_seen < needs:
        missing.append(f"{needs - numbers.never_seen} never-seen patients are missing to {needs}")

    return Way(
        name="own",
        reachable=not missing,
        why_not="; ".join(missing),
        fixed=fold_trainings(numbers.folds),
        running=numbers.a_year / needs * numbers.campaign_cost,
        wait=days / 2,
        longest_wait=days,
    )


def _qualified(numbers: FederationNumbers) -> Way:
    campaigns = batches(numbers, numbers.window_days)
    # One rehearsal runs beside each campaign; whoever does not conform is retrained with a batch.
    not_conforming = numbers.not_conforming * campaigns
    retrainings = min(not_conforming, batches(numbers, numbers.longest_wait))
    hours = numbers.campaign_cost * numbers.training_hours
    missing = []
    if numbers.never_seen < LEAST_CONTROLS:
        missing.append(f"{LEAST_CONTROLS - numbers.never_seen} never-seen patients are missing to {LEAST_CONTROLS}")
    elif numbers.never_seen < LEAST_CONTROLS_OF_SITE * numbers.hospitals:
        missing.append(
            f"a hospital rehearses with {LEAST_CONTROLS_OF_SITE} never-seen patients of its own, "
            f"{numbers.never_seen // numbers.hospitals} are there in the mean"
        )
    if numbers.audit_folds < 2:
        missing.append("two audit fold models are needed at least: every patient is judged by one that never saw them")
    together = numbers.a_day * numbers.window_days + 1
    if together > numbers.largest_campaign:
        missing.append(
            f"{together:.0f} patients fall into one campaign, at most {numbers.largest_campaign} are rehearsed"
        )

    return Way(
        name="qualified",
        reachable=not missing,
        why_not="; ".join(missing),
        fixed=fold_trainings(numbers.folds)
        + fold_trainings(numbers.audit_folds)
        + numbers.rehearsals * numbers.campaign_cost,
        # Twice, for the campaign and the rehearsal beside it.
        running=2 * campaigns * numbers.campaign_cost + retrainings,
        wait=mean_wait(numbers, numbers.window_days) + hours / 24,
        longest_wait=numbers.window_days + hours / 24,
    )


def _each(numbers: FederationNumbers) -> Way:
    days = numbers.training_hours / 24
    busy = numbers.a_year * days
    late = f"{busy:.0f} days of training a year do not fit into 365" if busy > 365 else ""
    return Way(
        name="retrain each", reachable=not late, why_not=late, fixed=0.0, running=numbers.a_year, wait=days,
        longest_wait=days,
    )  # fmt: skip


def _monthly(numbers: FederationNumbers) -> Way:
    days = numbers.training_hours / 24
    # A month without any revocation, by the Poisson process, needs no training.
    months = 12 * (1 - exp(-numbers.revocations_a_month))
    longest = MONTH_DAYS + days
    late = "" if longest <= numbers.deadline_days else f"whoever waits longest waits {longest:.1f} days"
    return Way(
        name="retrain monthly", reachable=not late, why_not=late, fixed=0.0, running=months,
        wait=MONTH_DAYS / 2 + days, longest_wait=longest,
    )  # fmt: skip


def _at_the_deadline(numbers: FederationNumbers) -> Way:
    days = numbers.training_hours / 24
    window = numbers.longest_wait
    late = "" if days <= numbers.lead_days else f"a training takes {days:.1f} days, and {numbers.lead_days:g} are left"
    return Way(
        name="retrain at the deadline",
        reachable=not late,
        why_not=late,
        fixed=0.0,
        running=batches(numbers, window),
        wait=mean_wait(numbers, window) + days,
        longest_wait=window + days,
    )


def _break_even(numbers: FederationNumbers, name: WayName) -> float | None:
    """Revocations a month from which a qualification is cheaper, between one in ten years and 100 a month."""

    def saved(rate: float) -> float:
        ways = {way.name: way for way in ways_of(numbers.model_copy(update={"revocations_a_month": rate}))}
        return ways[name].trainings - ways["qualified"].trainings

    low, high = 1 / 120, 100.0
    if saved(low) > 0:
        return low
    # A coarse search first, as the difference need not grow steadily; then bisection between two steps.
    steps: list[float] = [low * (high / low) ** (step / 400) for step in range(401)]
    above = next((at for at, rate in enumerate(steps) if saved(rate) > 0), None)
    if above is None:
        return None
    low, high = steps[above - 1], steps[above]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if saved(middle) > 0 else (middle, high)

    return high
