"""Audits every model of a stream, also on patients whom the hospitals have deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.cohort.site import Site
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed, pick_device
from common.learning.evaluation.figures import SiteFigures
from common.learning.evaluation.matching import control_weights, majority_labels, patient_means
from common.learning.evaluation.merge import merge
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, audit_figures
from common.learning.model.checkpoint import state_digest
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.training import score
from server.rounds.aggregation import State
from simulations.comparison.world import World
from simulations.run.to_result import BRANCHES, branch_mia, group_metrics
from simulations.stream.record import Audited, ForgottenCohort

Floats = NDArray[np.float64]
Forgotten = Mapping[str, tuple[str, ...]]
"""Patients whom a campaign forgets, by hospital."""


@dataclass
class Auditor:
    """Scores models at the untouched folders of a world, in which nobody has revoked.

    Attributes:
        staying: hospitals whose test patients count, the same for all models of a stream.
    """

    world: World
    staying: frozenset[str]
    _sites: dict[str, Site] = field(default_factory=dict)
    _held_out: dict[tuple[str, Subset], StudyTensors] = field(default_factory=dict)

    def audit(self, state: State, forgotten: Sequence[Forgotten]) -> Audited:
        """Utility on test patients, and membership against the audit patients of all `forgotten`, by campaign."""
        model = self.world.card.build().to(pick_device(self.world.experiment.device))
        model.load_state_dict(dict(state))
        parts: dict[str, SiteFigures] = {}
        ranks: dict[int, list[Floats]] = defaultdict(list)

        for name in self.world.sites:
            campaigns = {number: by[name] for number, by in enumerate(forgotten, 1) if name in by}
            forgotten_scores = self._of_patients(model, name, [p for patients in campaigns.values() for p in patients])
            # Only where somebody was forgotten: membership compares patients of one hospital.
            never_seen = self._of(model, name, Subset.AUDIT) if forgotten_scores else None
            sets = AuditSets(
                forget=forgotten_scores,
                retain=None,
                calibration=None,
                never_seen=never_seen,
                test=self._of(model, name, Subset.TEST) if name in self.staying else None,
            )
            # One seed a hospital for all models, so that differences between models are no noise of the bootstrap.
            seed = derive_seed(self.world.experiment.seed, name, "stream")
            parts[name] = audit_figures(
                sets,
                len(self.world.card.classes),
                None,
                draws=self.world.experiment.decision.bootstrap,
                rng=np.random.default_rng(seed),
            )

            if forgotten_scores is not None and never_seen is not None:
                mia_ranks = member_ranks(forgotten_scores, never_seen)
                # Columns are patients in the order in which they were scored: campaign after campaign.
                first = 0
                for number, patients in campaigns.items():
                    ranks[number].append(mia_ranks[:, first : first + len(patients)])
                    first += len(patients)

        scores = merge(parts)

        return Audited(
            digest=state_digest(state),
            test=group_metrics(scores.groups["test"]["fused"]),
            forgotten=group_metrics(scores.groups["forget"]["fused"]),
            mia={branch: branch_mia(scores.membership[branch]) for branch in BRANCHES},
            cohorts=tuple(
                cohort for number in sorted(ranks) if (cohort := _cohort(number, np.concatenate(ranks[number], axis=1)))
            ),
        )

    def _of(self, model: ImageTextModel, name: str, subset: Subset) -> Scores | None:
        key = name, subset
        # Held-out patients are the same for every model; the forgotten grow from campaign to campaign.
        if key not in self._held_out:
            self._held_out[key] = self._tensors(name, sorted(self._site(name).patients(subset)))
        return score(model, self._held_out[key]) if len(self._held_out[key]) else None

    def _of_patients(self, model: ImageTextModel, name: str, patients: Sequence[str]) -> Scores | None:
        return score(model, self._tensors(name, patients)) if patients else None

    def _tensors(self, name: str, patients: Sequence[str]) -> StudyTensors:
        """Patients are numbered in this order."""
        site = self._site(name)
        order = {patient: number for number, patient in enumerate(patients)}
        studies = sorted(site.cohort.of(order).studies, key=lambda study: order[study.patient])

        return site.tensors(tuple(studies))

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            self._sites[name] = Site(self.world.folder / "sites" / name)
        return self._sites[name]


def member_ranks(forgotten: Scores, never_seen: Scores) -> Floats:
    """Weighted share of never-seen patients with a higher loss than each forgotten one, `[3, patients]`; ties half.

    The mean of a row is `loss_auc` with the evaluator's weights. NaN if no never-seen patient has the label.
    """
    ours = majority_labels(forgotten)
    theirs = majority_labels(never_seen)
    # Without a never-seen patient of the same label there is nothing to compare with.
    common = np.isin(ours, theirs)
    weights = control_weights(ours[common], theirs)
    forgotten_loss = patient_means(forgotten.loss, forgotten.patients)
    right = patient_means(never_seen.loss, never_seen.patients)
    higher = (forgotten_loss[:, :, None] < right[:, None, :]) + 0.5 * (forgotten_loss[:, :, None] == right[:, None, :])
    ranks = np.asarray(higher @ weights, dtype=np.float64)
    ranks[:, ~common] = np.nan

    return ranks


def _cohort(number: int, ranks: Floats) -> ForgottenCohort | None:
    complete = ranks[:, ~np.isnan(ranks[0])]
    if not complete.shape[1]:
        return None
    means = complete.mean(axis=1)
    # The rows of scores are image, text, fused, as BRANCHES.
    rank = {branch: float(mean) for branch, mean in zip(BRANCHES, means, strict=True)}

    return ForgottenCohort(campaign=number, patients=complete.shape[1], rank=rank)
