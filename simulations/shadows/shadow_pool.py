"""Scores of all patients by shadow models: their files, and attacks based on them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from common.errors import CohortError
from common.files import write_bytes
from common.learning.evaluation.attacks.forgetting_epsilon import forgetting_epsilon
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
    """

    sites: tuple[str, ...]
    patients: tuple[str, ...]
    members: Bools
    forgotten: Bools
    confidence: Mapping[str, NDArray[np.float64]]


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
        **{f"by_{name}": values for name, values in shadow.confidence.items()},
    )
    write_bytes(path, buffer.getvalue())


def read_shadow(path: Path) -> ShadowFile:
    """Read the scores of a shadow."""
    with np.load(path, allow_pickle=False) as arrays:
        confidence = {name.removeprefix("by_"): arrays[name] for name in arrays.files if name.startswith("by_")}
        return ShadowFile(
            tuple(arrays["sites"].tolist()),
            tuple(arrays["patients"].tolist()),
            arrays["members"],
            arrays["forgotten"],
            confidence,
        )


@dataclass(frozen=True, slots=True)
class ShadowPool:
    """All shadows, for the attacks.

    Attributes:
        sites: `[n]`, and `patients` likewise.
        members: `[models, n]`, who was trained on in which; a patient is in half of them.
        forgotten: `[models, n]`, who was unlearned.
        confidence: `[models, 3, n]`, by `TRAINED` and by the methods that all shadows ran.
    """

    sites: tuple[str, ...]
    patients: tuple[str, ...]
    members: Bools
    forgotten: Bools
    confidence: Mapping[str, NDArray[np.float64]]


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
    names = [name for name in first.confidence if all(name in one.confidence for one in members)]

    return ShadowPool(
        first.sites,
        first.patients,
        np.stack([one.members for one in members]),
        np.stack([one.forgotten for one in members]),
        {name: np.stack([one.confidence[name] for one in members]) for name in names},
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
            rng = np.random.default_rng([seed, at])
            attacks.append(row.model_copy(update=_attacked(pool, here, values[:, at, here], inside, never, rng)))

    return attacks


def _attacked(
    pool: ShadowPool,
    here: NDArray[np.int64],
    confidence: NDArray[np.float64],
    inside: Bools,
    never: Bools,
    rng: np.random.Generator,
) -> dict[str, object]:
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


def print_attacks(found: Sequence[ShadowAttack], shadows: int, console: Console) -> None:
    """Print a table, and the numbers it is based on."""
    table = Table("model", "attack", "branch", "AUC [95 %]", "pairs", "epsilon", "of at most", "told best (AUC)")

    for one in found:
        if one.auc is None or one.ci95 is None or one.epsilon_cap is None:
            table.add_row(one.model, one.attack, one.branch, one.missing)
            continue

        (low, high), (least, most) = one.ci95, one.epsilon_cap
        leaks = ", ".join(f"{leak.site} {leak.auc:.2f}" for leak in one.leaks[:3])
        table.add_row(
            one.model,
            one.attack,
            one.branch,
            f"{one.auc:.3f} [{low:.3f}, {high:.3f}]",
            str(one.pairs),
            f"{one.epsilon_median:.2f}",
            f"{least:.2f} to {most:.2f}",
            leaks,
        )

    console.print(table)
    console.print(
        f"{shadows} shadow models. AUC: .5 cannot tell; attacks are scored on shadows that they were not fitted on. "
        "The interval is over patients, and too narrow with few shadows. "
        "Epsilon: median over patients, 0 cannot tell; so many models resolve no more than the column beside it says, "
        "and equal models have some."
    )
