"""Until when a qualification speaks for campaigns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from common.learning.evaluation.figures import Figures
from common.learning.evaluation.qualification.plan import QualificationPlan


class Circumstances(Figures):
    """Under what a procedure was rehearsed, or is used."""

    configuration: str
    """Digest of the settings that make a candidate."""
    lineage: str
    """First version of the line of campaigns: a retraining begins another."""
    aggregation: str
    sites: tuple[str, ...]
    labels: tuple[int, ...]
    """Classes of the patients."""
    train_patients: int
    at: datetime


def lapsed(
    plan: QualificationPlan, rehearsed: Circumstances, now: Circumstances, patients: int, drift: str | None = None
) -> tuple[str, ...]:
    """Why a qualification says nothing of a campaign that forgets so many patients; empty where it does."""
    reasons = []

    if now.configuration != rehearsed.configuration:
        reasons.append("the settings are not those that were rehearsed")
    if now.lineage != rehearsed.lineage:
        reasons.append("the model was retrained after the rehearsals")
    if now.aggregation != rehearsed.aggregation:
        reasons.append(f"aggregation {now.aggregation} was not rehearsed, {rehearsed.aggregation} was")
    # Hospitals may leave; one that joined was never rehearsed.
    if new := _new(now.sites, rehearsed.sites):
        reasons.append(f"{', '.join(new)} did not take part in the rehearsals")
    if labels := _new(map(str, now.labels), map(str, rehearsed.labels)):
        reasons.append(f"no patient of class {', '.join(labels)} was rehearsed")
    if not plan.covers(patients):
        reasons.append(f"{patients} patients at once were not rehearsed, {min(plan.sizes)} to {max(plan.sizes)} were")
    if rehearsed.train_patients - now.train_patients >= plan.gone_share * rehearsed.train_patients:
        reasons.append(f"{plan.gone_share:.0%} of the patients of then have gone")
    if now.at > rehearsed.at + timedelta(days=plan.valid_days):
        reasons.append(f"it is older than {plan.valid_days} days")
    if drift:
        reasons.append(drift)

    return tuple(reasons)


def _new(now: Iterable[str], then: Iterable[str]) -> list[str]:
    return sorted({*now} - {*then})
