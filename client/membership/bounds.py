"""The limits in `site.toml` on what an instruction may ask of this site, even with a valid signature."""

from __future__ import annotations

from flwr.app import RecordDict

from client.settings_sections import BoundsConfig
from common.errors import RefusedError
from common.learning.config import TrainConfig, UnlearnConfig
from common.protocol.messages import (
    EVALUATE,
    RETAIN,
    TRAIN,
    UNLEARN,
    EvaluateRequest,
    FoldModels,
    TrainRequest,
    UnlearnRequest,
)
from common.protocol.rehearsals import REHEARSE, RehearseRequest
from common.protocol.wire import unpack


def check_bounds(kind: str, records: RecordDict, bounds: BoundsConfig) -> None:
    """Raise unless a request of `kind` stays within `bounds`.

    Raises:
        RefusedError: it asks for more than the site allows; the message names the setting.
        WireError: it is not a request of this kind.
    """
    # Before the body is read: what nobody may ask for need not be understood.
    if kind not in bounds.kinds:
        raise RefusedError(f"bounds.kinds does not allow {kind[:40]!r}")
    if kind in {TRAIN, RETAIN}:
        request = unpack(records, TrainRequest)
        _at_most(request.epochs, bounds.max_epochs, "max_epochs")
        _check_steps(request.config, bounds)
        _check_folds(request.folds, bounds)
    elif kind == UNLEARN:
        _check_unlearning(unpack(records, UnlearnRequest).config, bounds)
    elif kind == REHEARSE:
        _check_rehearsals(unpack(records, RehearseRequest), bounds)
    elif kind == EVALUATE:
        evaluation = unpack(records, EvaluateRequest)
        _at_most(evaluation.decision.bootstrap, bounds.max_bootstrap, "max_bootstrap")
        _check_folds(evaluation.folds, bounds)


def _check_rehearsals(request: RehearseRequest, bounds: BoundsConfig) -> None:
    """As an unlearning and a retention round, for each of so many candidates."""
    _at_most(len(request.rehearsals), bounds.max_rehearsals, "max_rehearsals")
    most = max((one.patients for one in request.rehearsals), default=0)
    _at_most(most, bounds.max_rehearsed_patients, "max_rehearsed_patients")
    _at_most(request.epochs, bounds.max_epochs, "max_epochs")
    _check_steps(request.train, bounds)
    _check_unlearning(request.unlearn, bounds)


def _check_unlearning(config: UnlearnConfig, bounds: BoundsConfig) -> None:
    if config.method not in bounds.methods:
        raise RefusedError(f"bounds.methods does not allow {config.method[:40]!r}")
    _at_most(config.passes, bounds.max_passes, "max_passes")
    if config.method == "eu_k":
        _at_most(config.eu_k.layers, bounds.max_reset_layers, "max_reset_layers")
    _check_steps(config, bounds)


def _check_steps(config: TrainConfig | UnlearnConfig, bounds: BoundsConfig) -> None:
    _at_most(config.lr, bounds.max_learning_rate, "max_learning_rate")
    _at_most(config.clip, bounds.max_clip, "max_clip")
    _at_most(config.weight_decay, bounds.max_weight_decay, "max_weight_decay")


def _check_folds(folds: FoldModels | None, bounds: BoundsConfig) -> None:
    _at_most(len(folds.models) if folds else 0, bounds.max_fold_models, "max_fold_models")


def _at_most(asked: float, allowed: float, setting: str) -> None:
    # Written so that NaN is refused.
    if not asked <= allowed:
        raise RefusedError(f"asks for {asked:g}, bounds.{setting} allows {allowed:g}")
