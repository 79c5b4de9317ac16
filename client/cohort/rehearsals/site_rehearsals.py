"""A site's part in rehearsals: draw patients who have not revoked, unlearn and score them, and report once at the end.

A patient who revokes meanwhile is used no more: their rehearsal is left out of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.cohort.rehearsals.drawing import Drawing
from client.cohort.rehearsals.rehearsal_files import ORIGINAL, RehearsalFiles, original_of
from client.cohort.rehearsals.rehearsal_report import Kept, report
from client.cohort.scores.site_folds import standings_of
from client.cohort.scores.site_scoring import scored, scored_patients
from client.cohort.site_data import SiteData
from common.errors import CohortError, RefusedError
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.matching import majority_labels, patient_means
from common.learning.evaluation.membership import membership
from common.learning.evaluation.scores import Scores
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.training import FORWARD, fit
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from common.protocol.rehearsals import Rehearsal, Rehearsed, RehearseReply, RehearseRequest
from common.protocol.several_models import joined, parted

State = Mapping[str, Tensor]
Arrays = dict[str, NDArray[Any]]
Load = Callable[[State], ImageTextModel]
_TOO_FEW = "too few patients who can be compared"


@dataclass
class SiteRehearsals:
    """The rehearsals of one qualification at one site."""

    data: SiteData
    load: Load
    request: RehearseRequest
    cost: float = 0.0

    @property
    def files(self) -> RehearsalFiles:
        """What is kept until the end."""
        return RehearsalFiles.at(self.data.folder, self.request.qualification)

    @property
    def original(self) -> str:
        """Name of the scores by the model in use that the wave begins from."""
        return original_of(self.request.version)

    @property
    def name(self) -> str:
        """Of the site."""
        return self.data.file.name

    @property
    def own(self) -> tuple[Rehearsal, ...]:
        """Rehearsals in the request whose patients are drawn here."""
        return tuple(one for one in self.request.rehearsals if one.site == self.name)

    @property
    def _drawing(self) -> Drawing:
        return Drawing(self.data, self.files, self.request)

    def carry_out(self, state: State | None) -> tuple[State, RehearseReply]:
        """The requested step; the candidates that it made are joined, or there are none.

        Raises:
            RefusedError: weights are missing, or the qualification has ended here.
        """
        if self.request.step == "close":
            return {}, self.close()
        if state is None or self.files.reported() is not None:
            raise RefusedError("a step of a rehearsal without weights, or after the qualification has ended")
        match self.request.step:
            case "unlearn":
                return self.unlearn(state)
            case "retain":
                return self.retain(state)
            case _:
                return {}, self.score(state)

    def unlearn(self, state: State) -> tuple[State, RehearseReply]:
        """Score the model in use, draw the patients of each own rehearsal and unlearn them."""
        # Who can be drawn depends on these scores.
        self._score_original(state)
        states = {}
        new_states = []
        refusals = {}

        for one in self.own:
            forget = self._drawing.forget(one)
            if forget is None:
                refusals[one.number] = _TOO_FEW
                continue
            model, outcome = self._unlearn(state, one, forget)
            states[one.key] = _cloned(model)
            new_states.append(outcome)

        return joined(states), self._reply(unlearned=tuple(new_states), refused=refusals)

    def retain(self, state: State) -> tuple[State, RehearseReply]:
        """Train each candidate on all who have not revoked, but those whom it is to forget."""
        states = {}
        distances = {}
        own = {one.number for one in self.own}
        request = self.request

        for one, weights in zip(request.rehearsals, parted(state, request.keys).values(), strict=True):
            model = self.load(weights)
            # Round 0 begins with the unlearned model, which is no choice while there are rounds.
            if request.round and (gap := self._score(model, one, own=one.number in own)) is not None:
                distances[one.number] = gap
            studies = self._drawing.retain(one)
            if studies is None:
                raise CohortError("nobody to train on", where=self.name)
            # As in a round of a real campaign, but for the rehearsal's own seed.
            seed = derive_seed(one.seed, self.name, request.round)
            training = fit(
                model,
                studies,
                request.train,
                ranking_weight=self.data.file.card.model.ranking_weight,
                epochs=request.epochs,
                seed=seed,
            )
            self.cost += training.cost
            states[one.key] = _cloned(model)

        return joined(states), self._reply(distances=distances)

    def score(self, state: State) -> RehearseReply:
        """Keep the scores by each candidate."""
        distances = {}
        own = {one.number for one in self.own}
        for one, weights in zip(self.request.rehearsals, parted(state, self.request.keys).values(), strict=True):
            gap = self._score(self.load(weights), one, own=one.number in own)
            if gap is not None:
                distances[one.number] = gap

        return self._reply(distances=distances)

    def close(self) -> RehearseReply:
        """Report on all rehearsals and delete what was kept of them; asked again, the same report is given."""
        result = self.files.reported()
        if result is None:
            result = report(Kept(self.files, self.data, self.request))
            self.files.replace_by(result)

        return self._reply(report=result, controls=result.controls)

    def _unlearn(self, state: State, one: Rehearsal, forget: StudyTensors) -> tuple[ImageTextModel, Rehearsed]:
        retain = self._drawing.retain(one)
        calibration = self.data.to_score(Subset.CALIBRATION)
        if retain is None or calibration is None:
            raise CohortError("needs retained and calibration patients to unlearn", where=self.name)
        config = self.request.unlearn
        standings = standings_of(self.data, forget, calibration, config.fold_targets)
        model = self.load(state)
        # Before the method changes the model.
        self.keep_before(one, model, forget)
        unlearning = method_named(config.method)(
            model,
            UnlearnSets(forget, retain, calibration, standings),
            config,
            ranking_weight=self.data.file.card.model.ranking_weight,
            seed=derive_seed(one.seed, self.name, "unlearn"),
            on_pass=nothing,
        )
        self.cost += unlearning.cost
        outcome = Rehearsed(number=one.number, passes=len(unlearning.passes), gaps=unlearning.passes[-1].gap)

        return model, outcome

    def keep_before(self, one: Rehearsal, model: ImageTextModel, forget: StudyTensors) -> None:
        """Keep the scores of a rehearsal's patients by the model in use, and which one that was."""
        scores = self._scored(model, forget)
        if scores is not None:
            version = {"version": np.array(self.request.version)}
            self.files.put(f"{one.number}-{ORIGINAL}", self._margins(scores, forget, "patient") | version)

    def _score_original(self, state: State) -> None:
        """Scores of never-seen and test patients by the model in use, once."""
        if self.files.get(self.original) is not None:
            return
        model = self.load(state)
        controls = self.data.to_score(Subset.AUDIT)
        scores = self._scored(model, controls)
        arrays = self._test(model)
        if controls is not None and scores is not None:
            arrays |= self._margins(scores, controls, "control")
        self.files.put(self.original, arrays)

    def _score(self, model: ImageTextModel, one: Rehearsal, *, own: bool) -> float | None:
        """Keep the scores by a candidate: of its patients and of never-seen ones here, of test patients everywhere.

        Returns what a round is chosen by, if there is a choice.
        """
        arrays = self._test(model)
        distance = None
        forget = self._drawing.forget(one) if own else None
        controls = self.data.to_score(Subset.AUDIT) if own else None

        if forget is not None and controls is not None:
            of_forget = self._scored(model, forget)
            of_controls = self._scored(model, controls)
            if of_forget is not None and of_controls is not None:
                arrays |= self._margins(of_forget, forget, "patient") | self._margins(of_controls, controls, "control")
                distance = self._distance(model, of_forget, one)
        arrays["version"] = np.array(self.request.version)
        self.files.put(f"{one.number}-{self.request.round}", arrays)

        return distance

    def _distance(self, model: ImageTextModel, forget: Scores, one: Rehearsal) -> float | None:
        if self.request.round == 1 and self.request.step == "score":
            return None  # the only retention round
        calibration = self._scored(model, self.data.to_score(Subset.CALIBRATION))
        rng = np.random.default_rng(derive_seed(one.seed, self.name, "selection"))
        aucs = [membership(forget, calibration, at, draws=50, rng=rng).auc for at in range(3)]

        return round(max((abs(auc - 0.5) for auc in aucs if auc is not None), default=0.0), 2)

    def _margins(self, scores: Scores, studies: StudyTensors, who: str) -> Arrays:
        """Mean margins `[3, patients]` with the patients' pseudonyms."""
        patients = scored_patients(studies, scores)
        return {
            f"{who}_margins": patient_means(scores.margin, scores.patients),
            f"{who}_names": np.array(list(map(self.data.fold_scores.name_of, patients))),
            f"{who}_own_labels": majority_labels(scores),
        }

    def _test(self, model: ImageTextModel) -> Arrays:
        """Probabilities of the fused branch for test patients, `[classes, patients]`."""
        studies = self.data.to_score(Subset.TEST)
        scores = self._scored(model, studies)
        if studies is None or scores is None:
            return {}
        probabilities = np.exp(scores.log_probs[2]).T
        patients = scored_patients(studies, scores)

        return {
            "test": patient_means(probabilities, scores.patients),
            "test_names": np.array(list(map(self.data.fold_scores.name_of, patients))),
            "test_labels": majority_labels(scores),
        }

    def _scored(self, model: ImageTextModel, studies: StudyTensors | None) -> Scores | None:
        scores = scored(model, studies)
        self.cost += FORWARD * (0 if scores is None else len(scores))
        return scores

    def _reply(self, **fields: object) -> RehearseReply:
        return RehearseReply.model_validate({"site": self.name, "cost": self.cost, "seconds": 0.0, **fields})


def _cloned(model: ImageTextModel) -> dict[str, Tensor]:
    # The next model is loaded into the same tensors.
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
