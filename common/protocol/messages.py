"""Messages between coordinator and sites: their types, and what each request and reply says. `wire` carries them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from common.learning.config import DecisionConfig, Precision, TrainConfig, UnlearnConfig
from common.learning.evaluation.figures import Count, SelectionFigures, SiteFigures
from common.learning.folds.settings import MOST_FOLDS, Family

STATUS = "query.status"
TRAIN = "train"
UNLEARN = "train.unlearn"
RETAIN = "train.retain"
EVALUATE = "evaluate"
ADOPT = "query.adopt"
"""Types of Flower messages."""

MOST_RETIRED = 10_000
"""Maximum number of weights to delete, by their digests."""
REASON_LENGTH = 300
"""Maximum characters of the reason sent with a version."""

_MOST_NAME = 64

Name = Annotated[str, Field(max_length=_MOST_NAME)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Amount = Annotated[float, Field(ge=0.0, le=1e15, allow_inf_nan=False)]
"""Cost units or seconds."""


def _near(moment: datetime) -> datetime:
    if not 2000 <= moment.year < 2200:
        raise ValueError("the year is not between 2000 and 2199")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_near)]


class Body(BaseModel):
    """Base of every request and reply."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StatusRequest(Body):
    """Ask for the number of patients per set and of pending revocations: counts, never identities."""


class StatusReply(Body):
    """`registered` counts patients per set; `retain_studies` is what averaging weighs by."""

    site: Name
    registered: dict[Name, Count] = Field(max_length=16)
    train_studies: Count
    retain_studies: Count
    pending: Count
    first_due: Moment | None = None
    """Due date of the first pending revocation."""


class FoldModel(Body):
    """One of `of` fold models of a family. It never sees the patients of fold `number`, counted from 0."""

    family: Family
    number: int = Field(ge=0, lt=MOST_FOLDS)
    of: int = Field(ge=2, le=MOST_FOLDS)

    @property
    def key(self) -> str:
        """Name of the model among those of one message."""
        return f"{self.family}.{self.number}"


class FoldModels(Body):
    """The fold models in one message; `lineage` names the training that they belong to."""

    lineage: Name
    models: tuple[FoldModel, ...] = Field(min_length=1, max_length=2 * MOST_FOLDS)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the models, in order."""
        return tuple(model.key for model in self.models)


class TrainRequest(Body):
    """Train the model in the message, or each of the fold models in it on all patients but those of its fold."""

    config: TrainConfig
    epochs: int
    round: int
    seed: int
    folds: FoldModels | None = None
    reference: int | None = None
    """Of earlier versions: a site refuses to train reference models."""


class TrainReply(Body):
    """Result of local training; `received` evaluates the model in the request, which saves an exchange."""

    site: Name
    loss: float = Field(ge=0.0, le=1e9, allow_inf_nan=False)
    cost: Amount
    seconds: Amount
    received: SelectionFigures | None = None


class UnlearnRequest(Body):
    """Forget the pending patients."""

    config: UnlearnConfig
    seed: int


class UnlearnReply(Body):
    """Cost of unlearning; the weights are in the same message."""

    site: Name
    passes: int = Field(ge=0, le=10**6)
    gaps: tuple[Amount, Amount, Amount] | None
    cost: Amount
    seconds: Amount
    cohort: Digest | Literal[""] = ""
    """Salted commitment to the patients and studies involved; empty at a site that keeps no records."""


class EvaluateRequest(Body):
    """Score the model in the message.

    `selection` uses validation and calibration patients, and `audit` serves the decision. `folds` stores the scores by
    the fold models in the message at the site, for unlearning and audits to come.
    """

    purpose: Literal["selection", "audit", "folds", "reference"]
    """`reference` is of earlier versions: a site refuses it."""
    seed: int
    decision: DecisionConfig = DecisionConfig()
    folds: FoldModels | None = None
    reference: int | None = None


class EvaluateReply(Body):
    """Figures for the requested purpose."""

    site: Name
    cost: Amount
    seconds: Amount
    selection: SelectionFigures | None = None
    audit: SiteFigures | None = None


class AdoptRequest(Body):
    """Keep the model in the message as the new base, and close the campaign that made it.

    `how` says which patients it forgets: none, those that this campaign unlearned here, or all who had revoked before
    its training began; the site finds them in its own records. `retired` are digests of weights to delete.
    """

    version: Name
    digest: Digest
    campaign: int
    how: Literal["trained", "unlearned", "retrained"]
    retired: tuple[Digest, ...] = Field(default=(), max_length=MOST_RETIRED)
    reason: str = Field(default="", max_length=REASON_LENGTH)
    """Why patients were forgotten in this way, for the history of their revocations."""


class AdoptReply(Body):
    """The base is stored; `purged` are the retired weights that the site does not have, or no longer has."""

    site: Name
    purged: tuple[Digest, ...] = Field(max_length=MOST_RETIRED)
    closed: Count
    """Number of revocations that this campaign completed."""


class ErrorReply(Body):
    """An error at the site; its details stay in the site's own log."""

    code: Literal["bad-request", "no-data", "refused", "failed", "no-base"]


class WeightsNote(Body):
    """Note with the weights of a request: how to read them, and how to send those of the answer.

    Without it, request and answer hold whole models.
    """

    base: Digest | Literal[""]
    """Digest of the weights that the arrays change; empty for a whole model without its frozen layers."""
    weights: Digest
    """Digest of the resulting weights."""
    precision: Precision
    """Precision of the answer, which holds differences to `weights`."""
    line: Name
    """Rounding errors are carried over within one line of rounds, and dropped when another starts."""
    encoders: tuple[Digest, ...] = Field(default=(), max_length=8)
    """Digests of the folders that the model's encoders come from; left out where there are none."""


class HeldNote(Body):
    """Note with a reply: digests of the weights that the site has, as bases for changes."""

    held: tuple[Digest, ...] = Field(max_length=64)
