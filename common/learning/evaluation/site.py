"""Figures that a site computes: one function for selection, one for the audit, with separate sets for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.learning.evaluation.figures import Branch, Group, Membership, SelectionFigures, SiteFigures, Utility
from common.learning.evaluation.membership import audited_membership, membership
from common.learning.evaluation.metrics import utility
from common.learning.evaluation.qualification.campaign import campaign_distance
from common.learning.evaluation.scores import BRANCHES, Scores
from common.learning.folds.margins import OutOfFold

SELECTION_DRAWS = 100


@dataclass(frozen=True, slots=True)
class SelectionSets:
    """Sets for selection: no audit and no test patients. None if a site has no such patients."""

    forget: Scores | None
    validation: Scores | None
    calibration: Scores | None


@dataclass(frozen=True, slots=True)
class AuditSets:
    """Sets for the audit, once per campaign and candidate."""

    forget: Scores | None
    retain: Scores | None
    calibration: Scores | None
    never_seen: Scores | None
    test: Scores | None


def select_figures(sets: SelectionSets, classes: int, rng: np.random.Generator) -> SelectionFigures:
    """Validation utility, and forget against *calibration* patients."""
    validation: dict[Branch, Utility] = {}
    members: dict[Branch, Membership] = {}

    for at, branch in enumerate(BRANCHES):
        validation[branch] = utility(sets.validation, at, classes)
        members[branch] = membership(sets.forget, sets.calibration, at, draws=SELECTION_DRAWS, rng=rng)

    return SelectionFigures(validation=validation, membership=members)


def audit_figures(
    sets: AuditSets, classes: int, out_of_fold: OutOfFold | None, *, draws: int, rng: np.random.Generator
) -> SiteFigures:
    """Utility of each group and membership against the audit patients, on each branch.

    `out_of_fold` is by the audit's fold models: the forget patients, and the audit patients as controls.
    """
    groups: dict[Group, dict[Branch, Utility]] = {}
    sets_by_group: dict[Group, Scores | None] = {
        "forget": sets.forget,
        "retain": sets.retain,
        "never_seen": sets.never_seen,
        "test": sets.test,
    }

    for group, scores in sets_by_group.items():
        groups[group] = {
            name: utility(scores if scores is None else scores.of(scores.rows_on(at)), at, classes)
            for at, name in enumerate(BRANCHES)
        }

    members = {
        name: audited_membership(
            sets.forget, sets.retain, sets.calibration, sets.never_seen, at, out_of_fold, draws=draws, rng=rng
        )
        for at, name in enumerate(BRANCHES)
    }

    far = None
    if out_of_fold is not None and sets.forget is not None and sets.never_seen is not None:
        far = campaign_distance(sets.forget, sets.never_seen, out_of_fold)

    return SiteFigures(groups=groups, membership=members, distance=far)
