"""What the rule could have seen is said in the same words wherever a model is said to be accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

import pytest
from evidence_files import an_unlearning

from common.evidence import statement_parts, statements
from common.evidence.countersignature import claims_of
from common.evidence.outcomes.acceptance import USUAL_MARGIN, Figure, acceptance, accepted_by
from common.evidence.schema import decode, encode

NAME = "membership AUC, {}, forgotten against never-seen patients (.5 is the aim)"


class DecisionFields(TypedDict, total=False):
    """The fields of a decision that a test may change."""

    reasons: tuple[str, ...]
    margin: str


def metric(branch: str, value: str, low: str, high: str, n: int = 16) -> statement_parts.Metric:
    return statement_parts.Metric(NAME.format(branch), value, low, high, "0.95", n, "site")


def attested(*metrics: statement_parts.Metric, **decision: Unpack[DecisionFields]) -> statements.Unlearning:
    statement = an_unlearning()
    return replace(statement, metrics=metrics, decision=replace(statement.decision, **decision))


def test_a_wide_rule_and_a_small_group_are_said_with_what_they_cannot_exclude() -> None:
    statement = attested(metric("image", "0.4812345678901234", "0.25", "0.72"), margin="0.35")
    seen = accepted_by(statement)
    assert seen is not None
    assert seen.lines == (
        "the rule accepts a model if an attack picks the forgotten patient, paired with a never-seen one, in 15 to 85 "
        "of 100 pairs, by the whole 90 % interval of each branch; 50 is chance",
        "image: 48 of 100 pairs, 95 % interval 25 to 72, from 16 forgotten patients: an attack that "
        "picks the forgotten patient in up to 75 of 100 pairs is not ruled out",
    )
    assert seen.warning.startswith("WIDE MARGIN: the rule of this campaign allows up to 85 of 100 pairs (margin 0.35)")
    assert (seen.patients, seen.most, seen.allowed) == (16, 75, 85)
    said = claims_of(statement)
    assert seen.warning in said
    assert set(seen.lines) <= set(said)
    assert "0.4812345678901234" not in " ".join(said)


def test_the_usual_margin_gives_no_banner_and_a_hair_more_does() -> None:
    figure = Figure("fused", 0.5, 0.45, 0.55, 0.95, 200)
    assert acceptance([figure], USUAL_MARGIN).warning == ""
    assert acceptance([figure], 0.11).warning
    assert acceptance([figure], 0.05).warning == ""


def test_a_statement_from_before_margins_were_written_says_it_by_its_reason() -> None:
    reason = "every branch within 0.15 to 0.85 with 90 % confidence, utility kept at every site"
    seen = accepted_by(attested(metric("text", "0.5", "0.2", "0.8"), reasons=(reason,)))
    assert seen is not None
    assert seen.allowed == 85
    assert seen.warning
    unknown = accepted_by(attested(metric("text", "0.5", "0.2", "0.8"), reasons=("so decided",)))
    assert unknown is not None
    assert unknown.lines[0] == "what the rule allowed is not stated"


def test_no_figure_is_no_evidence_and_training_anew_is_judged_by_no_rule() -> None:
    other = statement_parts.Metric("revocations answered", "1", "1", "1", "0.95", 1, "site")
    nothing = accepted_by(attested(other, margin="0.1"))
    assert nothing is not None
    assert "membership was not measured" in nothing.lines[1]
    found = attested(other)
    assert accepted_by(replace(found, method=replace(found.method, name="retrained"))) is None


@pytest.mark.parametrize("margin", ["", "0.35"])
def test_a_margin_is_written_only_where_it_is_stated(margin: str) -> None:
    decision = statement_parts.Decision("accepted", ("why",), margin)
    assert (b"margin" in encode(decision)) == bool(margin)
    assert decode(statement_parts.Decision, encode(decision)) == decision
