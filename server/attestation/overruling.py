"""Whether a person published what a verdict or a veto had stopped, from the record of the campaign. Reads only."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.evidence.schema import time_text
from common.evidence.statement_parts import Overruled
from server.database import PhaseRow

_STEP = "overruled"
_VERDICTS = ("verdict:retrained", "verdict:trained", "verdict")
"""The last one that a campaign came to stands first: an unlearning that is not accepted is followed by a retraining."""


def overruled(session: Session, campaign: int | None) -> Overruled | None:
    """When a person published the campaign's version all the same, why, and what had stopped it; None if nobody did."""
    steps = select(PhaseRow).where(PhaseRow.campaign == campaign, PhaseRow.step.in_((_STEP, *_VERDICTS)))
    rows = {row.step: row for row in session.scalars(steps)}
    if _STEP not in rows:
        return None
    verdict = next((rows[step].body for step in _VERDICTS if step in rows), {})
    findings = [f"veto: {text}" for text in verdict.get("vetoes", ())]
    if verdict.get("outcome") != "accepted":
        findings += [f"{verdict.get('outcome', 'not accepted')}: {text}" for text in verdict.get("reasons", ())]
    row = rows[_STEP]

    return Overruled(time_text(row.finished), str(row.body["reason"]), tuple(findings or ["the verdict"]))
