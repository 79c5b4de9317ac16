"""Made-up federations for `qualification`: margins of rehearsed and never-seen patients, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from common.learning.evaluation.qualification.comparison import Comparison, Margins, compare, distance
from common.learning.evaluation.qualification.figures import ClassLoss, SiteRehearsals
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.rule import Qualification, qualify
from common.learning.evaluation.qualification.tally import Rehearsals, tally
from common.learning.evaluation.qualification.utility import class_loss

Floats = NDArray[np.float64]
LABELS = 3
BRANCHES = 3
CORRELATION = 0.5
"""Of a patient's margins on two branches, and of a campaign's effects on them."""
SAME_PARENT = 0.9
"""Share of the variance of one training that two campaigns from the same parent have in common."""


@dataclass(frozen=True, slots=True)
class World:
    """A federation and the truth about its procedure.

    Attributes:
        plan: what is registered.
        auc: true AUC on each branch of rehearsed against never-seen patients.
        between: standard deviation of that AUC between campaigns.
        growth: factor by which `between` grows from the first campaign to the last.
        remembered_share: share of patients who stay known to the model.
        remembered_auc: their AUC.
        original: AUC of the original model on each branch.
        controls: never-seen patients of the federation.
        hospitals: number of hospitals.
        strata: added to `auc` at each hospital, in turn.
        difficulty: correlation of a patient's margins under two models that were trained apart.
        audit: whether there are audit fold models; without them no patient has a floor of their own.
        tests: test patients of a class and of another, at each hospital.
        loss: true loss of test AUC, roughly.
    """

    plan: QualificationPlan = field(default_factory=QualificationPlan)
    auc: tuple[float, float, float] = (0.5, 0.5, 0.5)
    between: float = 0.05
    growth: float = 1.0
    remembered_share: float = 0.0
    remembered_auc: float = 0.9
    original: tuple[float, float, float] = (0.75, 0.75, 0.75)
    controls: int = 200
    hospitals: int = 4
    strata: tuple[float, ...] = (0.0,)
    difficulty: float = 0.8
    audit: bool = True
    tests: int = 40
    loss: float = 0.0


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Standard normal numbers with `CORRELATION` along the axis of branches, which comes first."""
    own = rng.standard_normal((BRANCHES, *shape))
    common_noise = rng.standard_normal(shape)
    return np.asarray(np.sqrt(CORRELATION) * common_noise + np.sqrt(1 - CORRELATION) * own)


def shift(auc: Floats) -> Floats:
    """Shift of a normal margin that gives an AUC."""
    # AUC = Phi(shift / sqrt(2)) for two normal groups of variance 1, solved for the shift.
    return np.asarray(np.sqrt(2.0) * special.ndtri(np.clip(auc, 0.001, 0.999)))


def draw(world: World, rng: np.random.Generator) -> Qualification:
    """One qualification of a made-up federation, judged by the rule itself."""
    reports = {}
    for number in range(world.hospitals):
        name = f"hospital-{number + 1}"
        reports[name] = _report(world, number, name, rng)

    return qualify(world.plan, reports)


def share_qualified(world: World, draws: int, seed: int) -> float:
    """Share of `draws` qualifications that pass."""
    rng = np.random.default_rng(seed)
    return float(np.mean([draw(world, rng).qualified for _ in range(draws)]))


def hospital_rehearsals(plan: QualificationPlan, hospitals: int, number: int) -> dict[int, list[int]]:
    """Rehearsals of one hospital by their size: hospitals and sizes take turns."""
    by_size: dict[int, list[int]] = {}
    for rehearsal in range(plan.rehearsals):
        if (rehearsal // len(plan.sizes)) % hospitals == number:
            by_size.setdefault(plan.size(rehearsal), []).append(rehearsal)

    return by_size


def _report(world: World, number: int, name: str, rng: np.random.Generator) -> SiteRehearsals:
    count = world.controls // world.hospitals
    control_labels = np.arange(count) % LABELS
    controls = _Controls.drawn(world, control_labels, rng)
    groups = [
        Rehearsals(size, rehearse(world, controls, number, size, rehearsals, rng))
        for size, rehearsals in sorted(hospital_rehearsals(world.plan, world.hospitals, number).items())
    ]

    return tally(name, groups, control_labels, [_test_loss(world, rng)], world.plan)


@dataclass(frozen=True, slots=True)
class _Controls:
    labels: NDArray[np.int64]
    easy: Floats
    parent: Floats
    floor: Floats

    @staticmethod
    def drawn(world: World, labels: NDArray[np.int64], rng: np.random.Generator) -> _Controls:
        count = len(labels)
        # Some labels are harder than others, which matching by label has to undo.
        easy = np.sqrt(world.difficulty) * normal(rng, count) + 0.7 * labels
        return _Controls(labels, easy, normal(rng, count), normal(rng, count))


def rehearse(
    world: World, controls: _Controls, hospital: int, size: int, rehearsals: Sequence[int], rng: np.random.Generator
) -> Comparison:
    """Rehearsals of one size at one hospital."""
    count = len(rehearsals)
    labels = rng.integers(LABELS, size=(count, size))
    # A margin is a patient's own difficulty plus what one training adds; their variances sum to 1.
    own = np.sqrt(1 - world.difficulty)
    easy = np.sqrt(world.difficulty) * normal(rng, count, size) + 0.7 * labels
    parent = normal(rng, count, size)
    spread = world.between * np.linspace(1, world.growth, world.plan.rehearsals)[list(rehearsals)]
    auc = np.array(world.auc)[:, None] + world.strata[hospital % len(world.strata)] + spread * normal(rng, count)
    remembers = rng.random((count, size)) < world.remembered_share
    shifts = np.where(remembers, shift(np.array(world.remembered_auc)), shift(auc)[:, :, None])

    def after(common: Floats, shape: tuple[int, ...]) -> Floats:
        return np.asarray(own * (np.sqrt(SAME_PARENT) * common + np.sqrt(1 - SAME_PARENT) * normal(rng, *shape)))

    def margins(patients: Floats, others: Floats) -> Margins:
        # Branches follow the rehearsals in a comparison.
        noise = others if others.ndim == 3 else np.broadcast_to(others[:, None], (BRANCHES, count, others.shape[1]))
        return Margins(patients.swapaxes(0, 1), noise.swapaxes(0, 1))

    shape = (count, len(controls.labels))
    rehearsal_margins = margins(
        easy + after(parent, (count, size)) + shifts,
        controls.easy[:, None] + after(np.broadcast_to(controls.parent[:, None], (BRANCHES, *shape)), shape),
    )
    original = margins(
        easy + own * parent + shift(np.array(world.original))[:, None, None], controls.easy + own * controls.parent
    )
    floor = margins(easy + own * normal(rng, count, size), controls.easy + own * controls.floor)

    if not world.audit:
        # Without a fold model everybody's floor is the same: half of the controls.
        floor = Margins(np.zeros_like(floor.patients), np.zeros_like(floor.controls))
    return compare(rehearsal_margins, original, floor, labels, controls.labels, world.plan.share_level)


def distances(world: World, size: int, count: int, others: Sequence[float], rng: np.random.Generator) -> Floats:
    """Distances of rehearsals of one size at one hospital, and then of one campaign each with another true AUC."""
    labels = np.arange(world.controls // world.hospitals) % LABELS
    controls = _Controls.drawn(world, labels, rng)
    worlds = [(world, count), *((replace(world, auc=(auc, auc, auc)), 1) for auc in others)]
    reports = []

    for one, rehearsals in worlds:
        plan = one.plan.model_copy(update={"rehearsals": rehearsals, "sizes": (size,)})
        comparison = rehearse(replace(one, plan=plan), controls, 0, size, range(rehearsals), rng)
        # Rounded as a hospital rounds what it sends.
        reports += [round(distance(row, size), 1) for row in comparison.residual]

    return np.array(reports)


def _test_loss(world: World, rng: np.random.Generator) -> ClassLoss:
    positive = np.arange(2 * world.tests) < world.tests
    before = 1.2 * positive + rng.standard_normal(len(positive))
    auc_after = 0.97 - 4 * world.loss
    common = rng.standard_normal(len(positive))
    own = rng.standard_normal((world.plan.rehearsals, len(positive)))
    after = np.sqrt(auc_after) * before + np.sqrt(1 - auc_after) * (np.sqrt(0.7) * common + np.sqrt(0.3) * own)

    return class_loss(before, after, positive)
