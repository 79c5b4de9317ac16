"""What an outcome rests on, in plain words. Pure; every page, letter and command prints these lines."""

from __future__ import annotations

from collections.abc import Iterator

from common.evidence.outcomes.grounds import Grounds, Outcome, QualificationGrounds, Rung
from common.evidence.schema import rounded

ONE_PATIENT = (
    "this campaign's own audit cannot decide about so few patients: the outcome rests on the rehearsals, and says that "
    "the procedure forgets patients like these, not that this one was measured"
)
LABELS: dict[Outcome, str] = {
    "exact": "Exact",
    "accepted": "Accepted",
    "accepted_qualified": "Accepted by qualification",
    "rejected": "Rejected",
    "inconclusive": "Inconclusive",
}
_ACCEPTED: dict[Rung, str] = {"own": "Accepted on its own evidence", "retrain": "Accepted after retraining"}
_RUNG_NAMES: dict[Rung, str] = {
    "exact": "exact",
    "own": "own evidence",
    "qualified": "qualification",
    "retrain": "retraining",
}


def label(outcome: Outcome, grounds: Grounds | None) -> str:
    """An outcome in a few words. `accepted` says by what, where that is stated."""
    if outcome == "accepted" and grounds is not None:
        return _ACCEPTED[grounds.rung]
    return LABELS[outcome]


def outcome_text(outcome: Outcome, grounds: Grounds | None) -> str:
    """An outcome for people: its label, and the name that files and JSON use."""
    return f"{label(outcome, grounds)} (`{outcome}`)"


def rests_on(outcome: Outcome, grounds: Grounds | None) -> str:
    """What the outcome rests on, as one clause."""
    if outcome == "inconclusive":
        return "the evidence neither shows nor rules out that patients are remembered"
    if outcome == "rejected":
        return "the evidence speaks against the model"
    if grounds is None or grounds.rung == "own":
        return "this campaign's own audit"
    if grounds.rung == "retrain":
        return "training from new weights without the patients"
    if grounds.qualification is not None:
        return (
            f"qualification {grounds.qualification.id} of the procedure by {grounds.qualification.rehearsals} "
            "rehearsals, to which this campaign conforms"
        )
    return f"training again, without the patients, all that ever saw them: {', '.join(grounds.trained_again)}"


def grounds_lines(outcome: Outcome, grounds: Grounds | None) -> tuple[str, ...]:
    """The grounds in order: what the outcome rests on, the figures, and the rungs above that did not carry it."""
    if grounds is None:
        return (f"rests on: {rests_on(outcome, None)}",)
    lines = [f"rests on: {rests_on(outcome, grounds)}"]
    if grounds.qualification is not None:
        lines += _qualification(grounds.qualification)
        lines.append(ONE_PATIENT)
    lines += [f"not by {_RUNG_NAMES[fall.rung]}: {fall.reason}" for fall in grounds.descents]

    return tuple(lines)


def _qualification(basis: QualificationGrounds) -> Iterator[str]:
    yield (
        f"qualification {basis.id}, registered as {basis.digest}: {basis.rehearsals} rehearsals of at most "
        f"{basis.patients} patient{'' if basis.patients == 1 else 's'} against {basis.controls} never-seen ones, "
        f"valid until {basis.valid_until}"
    )
    for one in basis.differences:
        yield (
            f"{one.branch}: difference from never-seen patients {rounded(one.value)}, 90 % interval "
            f"{rounded(one.low)} to {rounded(one.high)}, allowed ±{rounded(basis.margin)}"
        )
    for criterion in basis.criteria:
        yield f"{criterion.name} {'holds' if criterion.holds else 'DOES NOT HOLD'}: {criterion.finding}"
    yield f"this campaign conforms to its rehearsals: p = {rounded(basis.conformity)}, above .05 is asked"
