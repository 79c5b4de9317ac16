"""Scores of all patients by shadow models: their files, and attacks based on them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from common.errors import CohortError
from common.files import write_bytes
from common.learning.evaluation.attacks.forgetting_epsilon import forgetting_epsilon
from common.learning.evaluation.attacks.klom import klom
from common.learning.evaluation.attacks.u_lira import u_lira_held_out
from common.learning.evaluation.scores import BRANCHES

TRAINED = "trained"
"""Key of the shadow before unlearning."""
FOLDS = 4
DRAWS = 1000

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShadowFile:
    """Scores of one shadow, rows sorted by site and patient. Simulated patients, or the researcher's own data.

    Attributes:
        sites: `[n]`, and `patients` likewise.
        members: `[n]`, who was trained on.
        forgotten: `[n]`, who of them was unlearned.
        confidence: `[3, n]` by `TRAINED` and by unlearning method.
        utility: macro test AUC of the fused branch, by the same names; NaN where it cannot be computed.
        cost: in forward units, of the training and of each campaign.
        folds_cost: of the fold models, in forward units.
    """

    sites: tuple[str, ...]
    patients: tuple[str, ...]
    members: Bools
    forgotten: Bools
    confidence: Mapping[str, NDArray[np.float64]]
    utility: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    folds_cost: float = 0.0


def shadow_path(out: Path, number: int) -> Path:
    """Path of a shadow's scores."""
    return out / "shadows" / f"{number:03d}.npz"


def write_shadow(path: Path, shadow: ShadowFile) -> None:
    """Write the scores atomically.

    Raises:
        OutputError: the disk is full.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        sites=np.array(shadow.sites),
        patients=np.array(shadow.patients),
        members=shadow.members,
        forgotten=shadow.forgotten,
        folds_cost=np.array(shadow.folds_cost),
        **{f"by_{name}": values for name, values in shadow.confidence.items()},
        **{f"auc_{name}": np.array(value) for name, value in shadow.utility.items()},
        **{f"cost_{name}": np.array(value) for name, value in shadow.cost.items()},
    )
    write_bytes(path, buffer.getvalue())


def read_shadow(path: Path) -> ShadowFile:
    """Read the scores of a shadow."""
    with np.load(path, allow_pickle=False) as arrays:
        confidence = {name.removeprefix("by_"): arrays[name] for name in arrays.files if name.startswith("by_")}
        utility, cost = (
            {name.removeprefix(kind): float(arrays[name]) for name in arrays.files if name.startswith(kind)}
            for kind in ("auc_", "cost_")
        )
        return ShadowFile(
            tuple(arrays["sites"].tolist()),
            tuple(arrays["patients"].tolist()),
            arrays["members"],
            arrays["forgotten"],
            confidence,
            utility,
            cost,
            float(arrays["folds_cost"]) if "folds_cost" in arrays.files else 0.0,
        )


@dataclass(frozen=True, slots=True)
class ShadowPool:
    """All shadows, for the attacks.

    Attributes:
        sites: `[n]`, and `patients` likewise.
        members: `[models, n]`, who was trained on in which; a patient is in half of them.
        forgotten: `[models, n]`, who was unlearned.
        confidence: `[models, 3, n]`, by `TRAINED` and by the methods that all shadows ran.
        utility: `[models]` by the same names, see `ShadowFile`; empty in files of earlier versions.
        cost: `[models]` likewise.
        folds_cost: `[models]`.
    """

    sites: tuple[str, ...]
    patients: tuple[str, ...]
    members: Bools
    forgotten: Bools
    confidence: Mapping[str, NDArray[np.float64]]
    utility: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    cost: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    folds_cost: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def load_pool(out: Path) -> ShadowPool:
    """All shadows in a folder.

    Raises:
        CohortError: there are none, or they have different patients.
    """
    members = [read_shadow(path) for path in sorted((out / "shadows").glob("[0-9]*.npz"))]
    if not members:
        raise CohortError("no shadow models here", where=str(out), remedy="run fedforget-sim shadows")
    first = members[0]
    if any((one.sites, one.patients) != (first.sites, first.patients) for one in members):
        raise CohortError("shadow models of different patients", where=str(out), remedy="train them in another folder")
    # Shadows may be at different methods when the run was interrupted: only those that all have.
    names = [name for name in first.confidence if all(name in one.confidence for one in members)]

    return ShadowPool(
        first.sites,
        first.patients,
        np.stack([one.members for one in members]),
        np.stack([one.forgotten for one in members]),
        {name: np.stack([one.confidence[name] for one in members]) for name in names},
        {name: np.array([one.utility.get(name, np.nan) for one in members]) for name in names},
        {name: np.array([one.cost.get(name, np.nan) for one in members]) for name in names},
        np.array([one.folds_cost for one in members]),
    )


class Leak(BaseModel):
    """A patient whom the attack recognises well; a number in the pool, not an identifier."""

    row: int
    site: str
    auc: float


class ShadowAttack(BaseModel):
    """One attack on one branch after one method; of `TRAINED`, LiRA on models that unlearned nobody."""

    model: str
    attack: Literal["lira", "u-lira"]
    branch: str
    auc: float | None = None
    """Mean over patients; .5 cannot tell. Null, as all below, where `missing` says why."""
    ci95: tuple[float, float] | None = None
    pairs: int = 0
    epsilon_median: float | None = None
    epsilon_score: float | None = None
    epsilon_cap: tuple[float, float] | None = None
    """Least and most that a patient's models resolve."""
    klom95: float | None = None
    """95th percentile over patients of the divergence from models that never saw them; see `klom`."""
    gap_mean: float | None = None
    """Mean over patients of the margin unlearned minus never seen, nats."""
    gap_deviation: float | None = None
    """Its standard deviation over patients."""
    test_auc: float | None = None
    """Macro test AUC of the fused branch, mean over models."""
    cost: float | None = None
    """Mean cost over that of retraining in the same models, without the fold models; null where none retrained."""
    folds_cost: float | None = None
    """Cost of the fold models over that of the training, before any revocation."""
    leaks: tuple[Leak, ...] = ()
    missing: str = ""


def attack_pool(pool: ShadowPool, seed: int) -> list[ShadowAttack]:
    """LiRA on the trained shadows and U-LiRA on the unlearned ones, each held out, on every branch.

    Patients whom no shadow unlearned are left out, so that both are about the same ones.
    """
    here = np.flatnonzero(pool.forgotten.any(axis=0)) if pool.forgotten.any() else np.arange(len(pool.patients))
    never = ~pool.members[:, here]
    attacks = []

    for name, values in pool.confidence.items():
        inside = (pool.members if name == TRAINED else pool.forgotten)[:, here]
        for at, branch in enumerate(BRANCHES):
            attack: Literal["lira", "u-lira"] = "lira" if name == TRAINED else "u-lira"
            row = ShadowAttack(model=name, attack=attack, branch=branch)
            # Equal draws for every method, so that methods differ by their scores alone.
            rng = np.random.default_rng([seed, at])
            confidence = values[:, at, here]
            figures = _attacked(pool, here, confidence, inside, never, rng) | _costs(pool, name)
            figures |= _distances(confidence, inside, never)
            attacks.append(row.model_copy(update=figures))

    return attacks


def _distances(confidence: NDArray[np.float64], inside: Bools, never: Bools) -> dict[str, object]:
    """KLoM, and the margins' distance from those of models that never saw the patients."""
    divergences = klom(confidence, inside, never)
    gaps = [
        float(confidence[inside[:, n], n].mean() - confidence[never[:, n], n].mean())
        for n in range(confidence.shape[1])
        if inside[:, n].any() and never[:, n].any()
    ]
    # A patient with too few models on one side has no divergence.
    finite = divergences[np.isfinite(divergences)]

    return {
        "klom95": float(np.quantile(finite, 0.95)) if len(finite) else None,
        "gap_mean": float(np.mean(gaps)) if gaps else None,
        "gap_deviation": float(np.std(gaps)) if gaps else None,
    }


def _costs(pool: ShadowPool, name: str) -> dict[str, object]:
    """Utility and cost of a model, as far as the shadows recorded them."""
    utility = pool.utility.get(name)
    figures: dict[str, object] = {}
    if utility is not None and np.isfinite(utility).any():
        figures["test_auc"] = float(np.nanmean(utility))
    own, retraining_cost, training_cost = (pool.cost.get(key) for key in (name, "retrain", TRAINED))
    if own is not None and retraining_cost is not None and np.isfinite(own + retraining_cost).all() and name != TRAINED:
        figures["cost"] = float(own.mean() / retraining_cost.mean())
    if training_cost is not None and np.isfinite(training_cost).all() and name != TRAINED:
        figures["folds_cost"] = float(pool.folds_cost.mean() / training_cost.mean())

    return figures


def _attacked(
    pool: ShadowPool,
    here: NDArray[np.int64],
    confidence: NDArray[np.float64],
    inside: Bools,
    never: Bools,
    rng: np.random.Generator,
) -> dict[str, object]:
    # At least four shadows a fold, as far as there are so many.
    folds = min(FOLDS, max(2, len(confidence) // 4))
    try:
        attack = u_lira_held_out(confidence, inside, never, folds=folds, draws=DRAWS, rng=rng)
    except ValueError:
        return {"missing": f"{len(confidence)} shadow models are too few"}

    epsilon = forgetting_epsilon(confidence, inside, never)
    leaks = [
        Leak(row=int(here[n]), site=pool.sites[here[n]], auc=float(attack.by_patient[n]))
        for n in attack.most_leaking(5)
    ]

    return {
        "auc": attack.auc,
        "ci95": attack.interval,
        "pairs": attack.pairs,
        "epsilon_median": float(np.nanmedian(epsilon.patients)),
        "epsilon_score": epsilon.score,
        "epsilon_cap": (float(np.nanmin(epsilon.caps)), float(np.nanmax(epsilon.caps))),
        "leaks": tuple(leaks),
    }
