"""Figures that a site sends to the server: aggregates only, each marked as exact or binned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.learning.evaluation.auc_variance import hanley_mcneil
from common.learning.evaluation.histograms import LossHistogram

Branch = Literal["image", "text", "fused"]
Group = Literal["forget", "retain", "never_seen", "test", "validation", "calibration"]

MOST = 10**9
"""Largest count of patients or studies."""
MOST_CLASSES = 1000
Count = Annotated[int, Field(ge=0, le=MOST)]
Finite = Annotated[float, Field(ge=0.0, le=1e18, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0 + 1e-9, allow_inf_nan=False)]
"""Weighted sums of shares may exceed 1 by a rounding error."""
Signed = Annotated[float, Field(ge=-1.0 - 1e-9, le=1.0 + 1e-9, allow_inf_nan=False)]
Variance = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
Distance = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]
Reason = Annotated[str, Field(max_length=200)]


class Figures(BaseModel):
    """Base: frozen, no unknown keys, JSON in and out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassAuc(Figures):
    """One-vs-rest AUC of one class as a Mann-Whitney statistic of within-site pairs, `wins / pairs`; merges exactly."""

    wins: Finite
    pairs: int = Field(ge=0, le=MOST**2)
    positives: Count
    negatives: Count

    @property
    def auc(self) -> float | None:
        """AUC; None if a class or its rest is absent."""
        return self.wins / self.pairs if self.pairs else None

    @property
    def variance(self) -> float | None:
        """Variance after Hanley & McNeil 1982, from the AUC and the group sizes."""
        if not self.pairs:
            return None
        n = max(self.positives, 1)
        m = max(self.negatives, 1)

        # The formula gives 0 for a perfect order; half a win is the least that so few pairs can tell.
        return max(hanley_mcneil(self.wins / self.pairs, n, m), (0.5 / (n * m)) ** 2)


class Utility(Figures):
    """One group of patients on one branch. A unit is a patient and label: one whose label changes counts per label.

    `confusion[true][called]` counts units. `loss_sum` adds the patients' mean cross-entropies. `loss_median` is exact
    at one site; over several sites it is the middle of the histogram's bin that holds it (`median_is` says which), so
    off by half the bin at most, without the sites under 5 patients; None where that bin is the open one.
    """

    patients: Count
    confusion: tuple[Annotated[tuple[Count, ...], Field(max_length=MOST_CLASSES)], ...] = Field(max_length=MOST_CLASSES)
    auc: tuple[ClassAuc, ...] = Field(max_length=MOST_CLASSES)
    loss_sum: Finite
    loss_median: Finite | None
    median_is: Literal["exact", "binned"] = "exact"
    losses: LossHistogram = LossHistogram()


class Membership(Figures):
    """Forget against never-seen patients of the same hospital on one branch. All exact; a null has its reason.

    `auc`: P(forget looks more like a member), .5 is the aim. `calibrated`: the same less what models say that never
    saw the patients (fold models), of the `calibrated_patients` who have such scores; 0 is the aim. `ks`: 0 is the
    aim. `svc`: share of the `forget_studies` called members. `accuracy_*`: share of patients classified right,
    controls weighted to the labels. `rmia_auc` is of earlier versions.
    """

    forget_patients: Count
    control_patients: Count
    auc: Share | None
    variance: Variance | None
    ks: Share | None
    ks_p: Share | None
    calibrated: Signed | None = None
    calibrated_variance: Variance | None = None
    calibrated_patients: Count = 0
    rmia_auc: Share | None = None
    svc: Share | None = None
    forget_studies: Count = 0
    tpr_at_1pct_fpr: Share | None = None
    accuracy_forget: Share | None = None
    accuracy_control: Share | None = None
    accuracy_variance: Variance | None = None
    missing: dict[Reason, Reason] = Field(default_factory=dict, max_length=32)


class SelectionFigures(Figures):
    """Figures for stop rules, training length and choice of the retention round; never of audit or test patients."""

    validation: dict[Branch, Utility]
    membership: dict[Branch, Membership]


class SiteFigures(Figures):
    """One site's whole audit of one model."""

    groups: dict[Group, dict[Branch, Utility]]
    membership: dict[Branch, Membership]
    distance: Distance | None = None
    """From the never-seen level, as rehearsals report theirs; None where the campaign cannot be compared with them."""


class FederationFigures(Figures):
    """The merged audit, and the per-site test figures that the decision needs."""

    groups: dict[Group, dict[Branch, Utility]]
    membership: dict[Branch, Membership]
    membership_by_site: dict[str, dict[Branch, Membership]]
    test_by_site: dict[str, Utility]
    distance_by_site: dict[str, Distance] = Field(default_factory=dict)
    """Of the forgetting sites that could compare their patients with rehearsed ones."""


def reported_digest(membership: Mapping[Branch, Membership], test: Utility) -> str:
    """SHA-256 of a site's audit figures, equal at the site and at the server.

    A site without patients to forget has no membership figures.
    """
    forgetting = {name: member.model_dump(mode="json") for name, member in membership.items() if member.forget_patients}
    # Keys sorted and no spaces: both sides must hash the same bytes.
    value = {"membership": forgetting, "test": test.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
