"""The schema of `result.json`: everything the table, the report and the comparison are drawn from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.evidence.outcomes.grounds import Grounds, Outcome
from common.learning.evaluation.decision import Decision
from simulations.baseline_result import BaselineResult

ModelName = Literal["original", "retrained", "naive", "unlearned"]
Branch = Literal["image", "text", "fused"]
GroupName = Literal["forget", "retain", "never_seen", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Missing(_Strict):
    """Why a figure is null, keyed by its path, as in `mia.fused.tpr_at_1pct_fpr`."""

    path: str
    reason: str


class GroupMetrics(_Strict):
    """Utility on one group of patients, fused branch. Higher auc, f1 and accuracy are better, lower ce is better."""

    auc: float | None
    f1: float | None
    accuracy: float | None
    ce_mean: float | None
    ce_median: float | None
    patients: int


class BranchMia(_Strict):
    """Membership inference on one branch; `auc` above .5 remembers, below .5 over-forgot, .5 cannot tell."""

    auc: float | None
    ci90: tuple[float, float] | None
    ci95: tuple[float, float] | None
    ks: float | None
    ks_p: float | None
    calibrated: float | None = None
    """Mean rank above what models say that never saw the patients; 0 is the aim."""
    rmia_auc: float | None = None
    """Of earlier versions."""
    svc: float | None
    tpr_at_1pct_fpr: float | None


class Histogram(_Strict):
    """Counts of patients per bin of the loss (nats). Cells under 5 are merged into a neighbour: edges may be uneven."""

    edges: list[float]
    counts: list[int]


class BranchMetrics(_Strict):
    """Utility on one group and branch."""

    groups: dict[GroupName, GroupMetrics]


class ModelResult(_Strict):
    """One of the four models: utility per group, MIA per branch, loss distributions per branch and group."""

    forget: GroupMetrics
    retain: GroupMetrics
    never_seen: GroupMetrics
    test: GroupMetrics
    branches: dict[Branch, BranchMetrics]
    mia: dict[Branch, BranchMia]
    mia_by_site: dict[str, dict[Branch, BranchMia]] = Field(default_factory=dict)
    loss_histograms: dict[Branch, dict[GroupName, Histogram]] = Field(default_factory=dict)
    test_auc_by_site: dict[str, float | None] = Field(default_factory=dict)
    distance_to_retrained: float | None = None
    missing: list[Missing] = Field(default_factory=list)
    digest: str = ""


class RoundRecord(_Strict):
    """One round of one phase. `calibration_auc` is the loss AUC of forget against never-seen *calibration* patients."""

    model: ModelName
    phase: Literal["train", "unlearn", "retain"]
    round: int
    train_loss: float | None = None
    validation_auc: float | None = None
    validation_ce: float | None = None
    calibration_auc: dict[Branch, float | None] = Field(default_factory=dict)
    seconds: float = 0.0
    kept: bool = False


class Cost(_Strict):
    """`forward_units`: a forward of one study is 1, a backward 2. Bytes are seen from the sites."""

    forward_units: float = 0.0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0


class DecisionResult(_Strict):
    """The campaign's outcome by equivalence, with the reasons in plain words."""

    outcome: Outcome
    reasons: list[str]
    grounds: Grounds | None = None
    """What the outcome rests on; None in results of earlier versions."""

    @classmethod
    def of(cls, decision: Decision) -> DecisionResult:
        """As the evaluator decided."""
        return cls(outcome=decision.outcome, reasons=list(decision.reasons), grounds=decision.grounds)


class BranchRehearsals(_Strict):
    """Difference of rehearsed patients from never-seen ones on one branch, 0 is the aim; `original`: before."""

    difference: float
    low: float
    high: float
    original: float


class RehearsalsResult(_Strict):
    """The rehearsals that an outcome by qualification rests on; `distance` is that of the campaign, as `distances`."""

    rehearsals: int
    patients: int
    controls: int
    margin: float
    branches: dict[Branch, BranchRehearsals]
    distances: list[float]
    distance: float


class Result(_Strict):
    """All of one run of the main job."""

    schema_version: Literal[1] = 1
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    data: dict[str, dict[str, int]]
    """Counts of patients per site and group: `{"site-1": {"retain": 20, "forget": 10, "validation": 5, ...}}`."""
    models: dict[ModelName, ModelResult]
    history: list[RoundRecord]
    cost: dict[Literal["train", "retrain", "unlearn", "retain", "folds", "references"], Cost]
    """`references` is of earlier versions."""
    decision: DecisionResult
    decisions: dict[ModelName, DecisionResult] = Field(default_factory=dict)
    """The same rule applied to every model, for comparison."""
    baselines: list[BaselineResult] = Field(default_factory=list)
    """Simple classifiers on the same patients as the original model."""
    rehearsals: RehearsalsResult | None = None
    """Where the procedure was rehearsed before the revocations."""
    seconds: float = 0.0
