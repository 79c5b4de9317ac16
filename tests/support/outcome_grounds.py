"""Grounds of each outcome, as a real campaign would state them."""

from __future__ import annotations

from dataclasses import replace

from common.evidence.outcomes.grounds import Criterion, Descent, Difference, Grounds, Outcome, QualificationGrounds

QUALIFIED = QualificationGrounds(
    id="q3",
    digest="5a" * 32,
    rehearsals=40,
    patients=5,
    controls=212,
    margin="0.1",
    differences=(
        Difference("fused", "0.012", "-0.031", "0.055"),
        Difference("image", "-0.004", "-0.05", "0.042"),
        Difference("text", "0.021", "-0.018", "0.06"),
    ),
    criteria=tuple(Criterion(f"Q{number}", True, f"finding {number}") for number in range(1, 6)),
    conformity="0.41",
    valid_until="2027-03-01T00:00:00Z",
)
OWN = Descent("own", "too few patients to decide (1 against 53 never-seen ones)")
UNQUALIFIED = Descent("qualified", "no qualification is valid")
GROUNDS: dict[Outcome, Grounds] = {
    "exact": Grounds("exact", trained_again=("classifier", "image head")),
    "accepted": Grounds("own", patients=160, controls=170),
    "accepted_qualified": Grounds("qualified", patients=1, controls=53, descents=(OWN,), qualification=QUALIFIED),
    "rejected": Grounds("own", patients=40, controls=53),
    "inconclusive": Grounds("own", patients=1, controls=53, descents=(UNQUALIFIED,)),
}
RETRAINED = Grounds("retrain", descents=(OWN, UNQUALIFIED))
RESTS_ON: dict[Outcome, str] = {
    "exact": "training again, without the patients, all that ever saw them: classifier, image head",
    "accepted": "this campaign's own audit",
    "accepted_qualified": "qualification q3 of the procedure by 40 rehearsals",
    "rejected": "the evidence speaks against the model",
    "inconclusive": "the evidence neither shows nor rules out",
}


def qualified(**changes: object) -> Grounds:
    """Of `accepted_qualified`, with other figures of its qualification."""
    return replace(GROUNDS["accepted_qualified"], qualification=replace(QUALIFIED, **changes))  # type: ignore[arg-type]
