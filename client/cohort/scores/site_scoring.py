"""How a site scores a received model: to select a version, and to audit one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from client.cohort.site_data import SiteData
from client.revocations.access import Access
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.figures import SelectionFigures, SiteFigures
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, SelectionSets, audit_figures, select_figures
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.training import FORWARD, score
from common.protocol.messages import EvaluateRequest


def scored(model: ImageTextModel, studies: StudyTensors | None) -> Scores | None:
    """Scores of a set; None if it is empty, also because its last patient has just revoked."""
    scores = None if studies is None else score(model, studies)
    return scores if scores else None


def scored_patients(studies: StudyTensors, scores: Scores) -> list[str]:
    """The patients of `scores`, in order of their numbers; those who have just revoked are not among them."""
    # Patients are numbered in order of first appearance.
    order = list(dict.fromkeys(study.patient for study in studies.studies))
    return [order[number] for number in np.unique(scores.patients)]


def select(model: ImageTextModel, data: SiteData, seed: int, access: Access) -> tuple[SelectionFigures, float]:
    """Figures that the coordinator selects a version by, and their cost."""
    sets = SelectionSets(
        forget=scored(model, data.to_forget(access)),
        validation=scored(model, data.to_score(Subset.VALIDATION)),
        # Without patients to forget there is nothing to compare, and nothing to pay for.
        calibration=scored(model, data.to_score(Subset.CALIBRATION)) if access else None,
    )
    rng = np.random.default_rng(derive_seed(seed, data.file.name, "selection"))

    return select_figures(sets, len(data.file.card.classes), rng), _cost(
        (sets.forget, sets.validation, sets.calibration)
    )


def audit(model: ImageTextModel, data: SiteData, request: EvaluateRequest, access: Access) -> tuple[SiteFigures, float]:
    """Figures of an audit, and their cost."""
    # Without patients to forget there is nothing to compare: utility on the test patients suffices.
    has_access = bool(access)
    forget = data.to_forget(access)
    never_seen = data.to_score(Subset.AUDIT) if has_access else None
    sets = AuditSets(
        forget=scored(model, forget),
        retain=scored(model, data.to_score(Subset.TRAIN)) if has_access else None,
        calibration=scored(model, data.to_score(Subset.CALIBRATION)) if has_access else None,
        never_seen=scored(model, never_seen),
        test=scored(model, data.to_score(Subset.TEST)),
    )
    out_of_fold = None
    if forget is not None and never_seen is not None and sets.forget is not None and sets.never_seen is not None:
        out_of_fold = data.fold_scores.read(
            "audit", scored_patients(forget, sets.forget), scored_patients(never_seen, sets.never_seen)
        )

    figures = audit_figures(
        sets,
        len(data.file.card.classes),
        out_of_fold,
        draws=request.decision.bootstrap,
        rng=np.random.default_rng(derive_seed(request.seed, data.file.name, "audit")),
    )

    return figures, _cost((sets.forget, sets.retain, sets.calibration, sets.never_seen, sets.test))


def _cost(sets: Iterable[Scores | None]) -> float:
    """Cost of one forward pass over all rows, in passes of a study."""
    return FORWARD * sum(len(rows) for rows in sets if rows is not None)
