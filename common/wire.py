"""Messages between coordinator and sites: pydantic models in a Flower `ConfigRecord`, weights in an `ArrayRecord`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from pydantic import BaseModel, ConfigDict, ValidationError

from common.config import DecisionConfig, TrainConfig, UnlearnConfig
from common.errors import WireError
from common.evaluation.figures import SelectionFigures, SiteFigures

if TYPE_CHECKING:
    from torch import Tensor

STATUS, TRAIN, UNLEARN, RETAIN, EVALUATE = "query.status", "train", "train.unlearn", "train.retain", "evaluate"
ADOPT = "query.adopt"
"""Types of Flower messages."""

_BODY, _WEIGHTS = "body", "arrays"


class Body(BaseModel):
    """Base of every request and reply."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StatusRequest(Body):
    """How many patients are where, and how many revocations wait? Counts, never identities."""


class StatusReply(Body):
    """`registered` counts patients per set; `retain_studies` is what averaging weighs by."""

    site: str
    registered: dict[str, int]
    train_studies: int
    retain_studies: int
    pending: int
    first_due: datetime | None = None
    """When the first of them must be answered."""


class TrainRequest(Body):
    """Train the model that came along; `reference` k asks for training on the k-th random half of the patients."""

    config: TrainConfig
    epochs: int
    round: int
    seed: int
    reference: int | None = None


class TrainReply(Body):
    """Local training; `received` evaluates the model that came along, which saves an exchange."""

    site: str
    loss: float
    cost: float
    seconds: float
    received: SelectionFigures | None = None


class UnlearnRequest(Body):
    """Forget the pending patients."""

    config: UnlearnConfig
    seed: int


class UnlearnReply(Body):
    """What unlearning cost; the weights travel beside it."""

    site: str
    passes: int
    gaps: tuple[float, float, float] | None
    cost: float
    seconds: float


class EvaluateRequest(Body):
    """Score the model that came along.

    `selection` sees validation and calibration patients, `audit` is the decision's, `reference` keeps the scores of
    reference model k at the site, for the audits to come.
    """

    purpose: Literal["selection", "audit", "reference"]
    seed: int
    decision: DecisionConfig = DecisionConfig()
    reference: int | None = None


class EvaluateReply(Body):
    """Figures for the purpose that was asked for."""

    site: str
    cost: float
    seconds: float
    selection: SelectionFigures | None = None
    audit: SiteFigures | None = None


class AdoptRequest(Body):
    """Keep the model that came along as the new base, and close the campaign that made it.

    `how` says who is forgotten by it: those whom this campaign unlearned here, or everybody who had revoked before
    its training began; the site knows which from its own records. `retired` are weights to delete, by digest.
    """

    version: str
    digest: str
    campaign: int
    how: Literal["trained", "unlearned", "retrained"]
    retired: tuple[str, ...] = ()


class AdoptReply(Body):
    """The base is in place; `purged` are the retired weights that are not, or no longer, at the site."""

    site: str
    purged: tuple[str, ...]
    closed: int
    """Revocations that this campaign brought to their end."""


class ErrorReply(Body):
    """Something failed at the site; the detail stays in the site's own log."""

    code: Literal["bad-request", "no-data", "refused", "failed"]


B = TypeVar("B", bound=Body)


def pack(body: Body, weights: Mapping[str, Tensor] | None = None) -> RecordDict:
    """Records of a message."""
    records = RecordDict({_BODY: ConfigRecord({"type": type(body).__name__, "json": body.model_dump_json()})})
    if weights is not None:
        records[_WEIGHTS] = ArrayRecord({name: t.detach().cpu() for name, t in weights.items()})
    return records


def unpack(records: RecordDict, kind: type[B]) -> B:
    """The body of a message.

    Raises:
        WireError: it is not a `kind`, or the site sent an `ErrorReply`.
    """
    record = records.get(_BODY)
    if not isinstance(record, ConfigRecord):
        raise WireError("message without a body")
    found, text = str(record.get("type")), str(record.get("json"))
    if found not in {kind.__name__, ErrorReply.__name__}:
        raise WireError(f"expected {kind.__name__}, got {found[:40]!r}")
    try:
        if found == ErrorReply.__name__:
            raise WireError(f"the site answered with error {ErrorReply.model_validate_json(text).code!r}, see its log")
        return kind.model_validate_json(text)
    except ValidationError as err:
        first = err.errors()[0]
        raise WireError(f"{kind.__name__}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def error_code(records: RecordDict) -> str | None:
    """The code of an `ErrorReply`, None for any other message."""
    record = records.get(_BODY)
    if not isinstance(record, ConfigRecord) or record.get("type") != ErrorReply.__name__:
        return None
    try:
        return ErrorReply.model_validate_json(str(record.get("json"))).code
    except ValidationError:
        return "unreadable"


def weights_of(records: RecordDict) -> dict[str, Tensor]:
    """The weights of a message.

    Raises:
        WireError: there are none, or they cannot be read.
    """
    import torch  # noqa: F401, PLC0415 - Flower does not import it itself, and a refusal must not pay for it

    record = records.get(_WEIGHTS)
    if not isinstance(record, ArrayRecord):
        raise WireError("message without weights")
    try:
        return cast("dict[str, Tensor]", dict(record.to_torch_state_dict()))
    except Exception as err:  # noqa: BLE001 - of a damaged head NumPy's reader raises SyntaxError, TokenError, EOFError...
        raise WireError(f"weights that cannot be read: {type(err).__name__}") from None


def size(records: RecordDict) -> int:
    """Bytes of the arrays in a message, which is nearly all of it."""
    record = records.get(_WEIGHTS)
    return sum(len(a.data) for a in record.values()) if isinstance(record, ArrayRecord) else 0
