"""A plan as a page of text."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.planning.economics import Plan, Way

_TITLES = {
    "own": "own evidence, patients forgotten together",
    "qualified": "qualification, then single patients",
    "retrain each": "retraining for each revocation",
    "retrain monthly": "retraining once a month",
    "retrain at the deadline": "retraining at the deadline",
}


def to_text(plan: Plan) -> str:
    """The ways in a table, the cheapest, what cannot be reached and the break-even."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    numbers = plan.numbers
    yield (
        f"{numbers.patients} training and {numbers.never_seen} never-seen patients at {numbers.hospitals} hospitals; "
        f"{numbers.revocations_a_month:g} revocations a month, due in {numbers.deadline_days:g} days; a training takes "
        f"{numbers.training_hours:g} hours"
    )
    yield ""
    yield f"{'':44}{'trainings':>10}{'hours':>9}{'wait, days':>18}"
    yield f"{'':44}{'a year':>10}{'a year':>9}{'mean':>9}{'most':>9}"
    for way in plan.ways:
        mark = "*" if way.name == plan.cheapest else " " if way.reachable else "x"
        yield (
            f"{mark} {_TITLES[way.name]:42}{way.trainings:>10.1f}{way.trainings * numbers.training_hours:>9.0f}"
            f"{way.wait:>9.1f}{way.longest_wait:>9.1f}"
        )

    yield ""
    yield f"* cheapest in time: {_TITLES[plan.cheapest]}"
    yield from _out_of_reach(plan.ways)
    yield from _paid_before(plan)
    yield from _break_even(plan)


def _out_of_reach(ways: tuple[Way, ...]) -> Iterator[str]:
    for way in ways:
        if not way.reachable:
            yield f"x cannot be reached: {_TITLES[way.name]}: {way.why_not}"


def _paid_before(plan: Plan) -> Iterator[str]:
    way = next(one for one in plan.ways if one.name == "qualified")
    yield (
        f"A qualification costs {way.fixed:.1f} trainings before the first revocation, for a year or a lineage: "
        f"{plan.numbers.folds} fold models, {plan.numbers.audit_folds} audit fold models, "
        f"{plan.numbers.rehearsals} rehearsals."
    )


def _break_even(plan: Plan) -> Iterator[str]:
    for name, rate in plan.break_even.items():
        if rate is None:
            yield f"Break-even against {_TITLES[name]}: none, a qualification is never cheaper."
        else:
            yield f"Break-even against {_TITLES[name]}: {rate:.2f} revocations a month, {12 * rate:.0f} a year."
