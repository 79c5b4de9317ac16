"""What a baseline reaches, as `result.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

Training = Literal["pooled", "federated", "alone"]
TRAINED: Mapping[Training, str] = {"pooled": "pooled", "federated": "federated", "alone": "each hospital alone"}
"""How people read it."""


class BaselineResult(BaseModel):
    """One simple classifier under one way of training, on the test patients of all hospitals.

    Attributes:
        name: what the classifier reads, such as `TF-IDF + logistic regression`.
        branch: whether it reads the image, the text, or both.
        training: `pooled` as if all data lay in one place, `federated` by averaging, `alone` each hospital for itself.
        auc: macro one-vs-rest AUC of patients of the same hospital, as the model's test AUC is computed.
        auc_across: the same over pairs of patients of any hospitals. Where it is higher than `auc`, the classifier also
            recognises the hospital.
        patients: test patients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    branch: Literal["image", "text", "both"]
    training: Training
    auc: float | None
    auc_across: float | None
    patients: int
