"""Unlearning on your own torch model, without a federation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from torch import nn

from common.errors import ConfigError
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.methods import METHODS, method_named
from common.learning.unlearning.settings import UnlearnConfig
from common.settings import parse
from fedforget.patients import Patients

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Unlearning(Generic[M]):
    """Result of `unlearn`.

    Attributes:
        model: a copy that has forgotten; the original model is unchanged.
        trace: the loss of each pass and, for methods with targets, the distance of the forget patients' margins from
            their targets.
        cost: cost in forward units: the forward pass of one study is 1, its backward pass 2.
    """

    model: M
    trace: Unlearned
    cost: float


def methods() -> tuple[str, ...]:
    """Names of the methods that `unlearn` accepts."""
    return tuple(sorted(METHODS))


def unlearn(
    model: M,
    forget: Patients,
    *,
    retain: Patients,
    calibration: Patients,
    method: str = "forget_mi_calibrated",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_pass: OnPass = nothing,
) -> Unlearning[M]:
    """Make a copy of `model` forget some of the patients it was trained on.

    `retain` are patients who stay; `calibration` are patients that the model never saw: calibrated Forget-MI moves the
    forgotten patients to their level. Use other never-seen patients for `audit`, or the audit measures the fit.

    Args:
        model: see `Patients`.
        forget: patients to forget, who were trained on.
        retain: patients to keep, who were trained on.
        calibration: patients who were never trained on.
        method: one of `methods()`. Methods that use the paper's noise need `reports` and `encode` in `forget`, or
            `settings={"noise": "image"}`.
        settings: fields of `UnlearnConfig`, such as `{"passes": 12, "lr": 5e-4}`.
        seed: the same seed gives the same weights on a CPU.
        on_pass: called after each pass.

    Returns:
        The copy, the trace, and the cost.

    Raises:
        ConfigError: an unknown method or setting.
        CohortError: nobody is left to retain.
    """
    config = parse(UnlearnConfig, {**(settings or {}), "method": method}, "settings")
    # Checked here: deep in the method, the missing text would be an error without advice.
    if config.noise in {"text", "both"} and not forget.can_change_reports:
        remedy = 'give Patients(reports=..., encode=...), or settings={"noise": "image"}'
        raise ConfigError("noisy reports need texts and a tokenizer", where="forget", remedy=remedy)

    new_model = copy.deepcopy(model)
    trace = method_named(method)(
        cast(ImageTextModel, new_model),
        UnlearnSets(forget=forget, retain=retain, calibration=calibration),
        config,
        ranking_weight=0.0,
        seed=seed,
        on_pass=on_pass,
    )
    new_model.eval()

    return Unlearning(new_model, trace, trace.cost)
