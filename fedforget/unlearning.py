"""Unlearning on a torch model of your own, without a federation."""

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
    """The outcome.

    Attributes:
        model: a copy that has forgotten; the model that was given is unchanged.
        trace: each pass with its loss, and the distance of the forget patients' margins to their targets where the
            method has targets.
        cost: in forward units: a forward of one study is 1, a backward 2.
    """

    model: M
    trace: Unlearned
    cost: float


def methods() -> tuple[str, ...]:
    """Names of the methods that `unlearn` takes."""
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

    `retain` are patients who stay, `calibration` patients whom the model never saw: calibrated Forget-MI moves the
    forgotten ones to the level of these. Use other never-seen patients for `audit`, or the audit sees what was fitted.

    Args:
        model: see `Patients`.
        forget: trained on, to be forgotten.
        retain: trained on, to be kept.
        calibration: never trained on.
        method: one of `methods()`. Methods after the paper's noise need `reports` and `encode` in `forget`, or
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
