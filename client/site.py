"""One hospital: what the Flower handlers act on."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import Tensor

from client.bases import Bases
from client.reference_scores import ReferenceScores
from client.revocations import (
    Receipt,
    Revocations,
    RevocationWatch,
    close_revocations,
    locked,
    record_revocations,
    waiting,
)
from client.settings import SiteFolder
from client.site_files import drop_studies, read_site
from client.site_records import SiteRecords
from common.data.image_cache import ImageCache
from common.data.tensors import StudyTensors
from common.data.tokenizer import load_tokenizer
from common.device import derive_seed, pick_device
from common.errors import CohortError, RefusedError, WireError
from common.evaluation.figures import SelectionFigures
from common.evaluation.scores import Scores
from common.evaluation.site import AuditSets, SelectionSets, audit_figures, select_figures
from common.model.checkpoint import check_state
from common.model.image_text import ImageTextModel
from common.records import Subset
from common.training import FORWARD, fit, score
from common.unlearning.base import UnlearnSets, nothing
from common.unlearning.methods import method_named
from common.wire import (
    AdoptReply,
    AdoptRequest,
    EvaluateReply,
    EvaluateRequest,
    StatusReply,
    TrainReply,
    TrainRequest,
    UnlearnReply,
    UnlearnRequest,
)

State = Mapping[str, Tensor]


class Site:
    """A hospital's data and its revocations, opened from its folder.

    A revocation takes effect at once, also in a training that runs: no later batch holds the patient.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read()
        self.name = self._file.name
        self.card = self._file.card
        self._watch = RevocationWatch(folder)
        place = SiteFolder(folder)
        self._records = SiteRecords(place)
        self.device = pick_device(place.settings().device if place.settings_file.exists() else self._file.device)
        self.tokenizer = load_tokenizer(self.card.data.tokenizer, self.card.data.max_tokens)
        self.cache = ImageCache(folder / self._file.cache, self.card.data.image_size, self.card.data.cache_bytes)
        self.bases = Bases(folder, lambda: self.card.build().state_dict(), self.card.model)
        self._model: ImageTextModel | None = None

    def _read(self) -> None:
        self._file = read_site(self.folder)
        self.cohort = self._file.cohort
        self._present = frozenset(self.cohort.patients)
        self._tensors: dict[tuple[frozenset[str], bool], StudyTensors] = {}

    @property
    def revocations(self) -> Revocations:
        """As they stand on disk now."""
        return self._watch.now()

    def revoke(
        self, patients: Collection[str], *, received: datetime | None = None, days_to_answer: float = 30.0
    ) -> Receipt:
        """Record revocations, received now unless told otherwise: no train or retain batch holds these patients again.

        Raises:
            CohortError: some are not known here; nothing is recorded then.
        """
        return record_revocations(
            self.folder,
            patients,
            receipt=secrets.token_hex(8),
            received=received or datetime.now(UTC),
            days_to_answer=days_to_answer,
        )

    def patients(self, subset: Subset) -> frozenset[str]:
        """Patients of one of the five sets who have not revoked."""
        return self._of(subset) - self.revocations.tombstones

    @property
    def forget(self) -> frozenset[str]:
        """Pending patients who were trained on."""
        return self._of(Subset.TRAIN) & self.revocations.pending

    def forget_in(self, campaign: int) -> frozenset[str]:
        """Those whom a campaign is to forget here, fixed at its first request: who revokes later waits for the next."""
        return self._records.forgotten(campaign, self.forget) & self._of(Subset.TRAIN)

    def _of(self, subset: Subset) -> frozenset[str]:
        """Patients of a set whose studies are here: a set also remembers those who were in an earlier manifest."""
        return frozenset(p for p, s in self._file.subsets.items() if s is subset) & self._present

    def status(self) -> StatusReply:
        """Counts only."""
        counts = {str(subset): len(self.patients(subset)) for subset in Subset}
        retain = self.cohort.of(self.patients(Subset.TRAIN))
        forget = self.forget
        return StatusReply(
            site=self.name,
            registered={**counts, "forget": len(forget)},
            train_studies=len(retain) + len(self.cohort.of(forget)),
            retain_studies=len(retain),
            pending=len(forget),
            first_due=waiting(self.folder).first_due,
        )

    def train(
        self, state: State, request: TrainRequest, *, campaign: int = 0, step: str = "train"
    ) -> tuple[ImageTextModel, TrainReply]:
        """Local training on everybody who has not revoked; the received model is scored first, unless a reference.

        `campaign` and `step` are what the coordinator calls the occasion, for the site's records; so below.
        """
        begin = time.monotonic()
        patients = self.patients(Subset.TRAIN)
        if request.reference is not None:
            patients = frozenset(p for p in patients if _in_half(self.name, p, request.reference))
        studies = self._studies(patients, learn=True)
        if studies is None:
            raise CohortError("nobody to train on", where=self.name)
        model = self._load(state)
        self._records.used(state, patients, campaign, step, "train")
        received, cost = None, 0.0
        if request.reference is None:
            received, cost = self._select(model, request.seed, self.forget_in(campaign))
        trained = fit(
            model,
            studies,
            request.config,
            ranking_weight=self.card.model.ranking_weight,
            epochs=request.epochs,
            seed=derive_seed(request.seed, self.name, request.round),
        )
        return model, TrainReply(
            site=self.name,
            loss=trained.loss,
            cost=cost + trained.cost,
            seconds=time.monotonic() - begin,
            received=received,
        )

    def unlearn(
        self, state: State, request: UnlearnRequest, *, campaign: int = 0, step: str = "unlearn"
    ) -> tuple[ImageTextModel, UnlearnReply]:
        """Run the requested method on the pending patients."""
        begin = time.monotonic()
        forgotten, kept = self.forget_in(campaign), self.patients(Subset.TRAIN)
        forget, retain = self._studies(forgotten), self._studies(kept, learn=True)
        calibration = self._studies(self.patients(Subset.CALIBRATION))
        if forget is None:
            raise RefusedError(f"{self.name}: no revocation is pending")
        if retain is None or calibration is None:
            raise CohortError("needs retained and calibration patients to unlearn", where=self.name)
        model = self._load(state)
        self._records.used(state, forgotten, campaign, step, "unlearn")
        self._records.used(state, kept, campaign, step, "train")
        method = method_named(request.config.method)
        done = method(
            model,
            UnlearnSets(forget, retain, calibration),
            request.config,
            ranking_weight=self.card.model.ranking_weight,
            seed=derive_seed(request.seed, self.name, "unlearn"),
            on_pass=nothing,
        )
        return model, UnlearnReply(
            site=self.name,
            passes=len(done.passes),
            gaps=done.passes[-1].gap,
            cost=done.cost,
            seconds=time.monotonic() - begin,
        )

    def evaluate(
        self, state: State, request: EvaluateRequest, *, campaign: int = 0, step: str = "evaluate"
    ) -> EvaluateReply:
        """Score the received model for the requested purpose."""
        begin = time.monotonic()
        model = self._load(state)
        forgotten = self.forget_in(campaign)
        self._records.used(state, forgotten, campaign, step, "evaluate")
        match request.purpose:
            case "selection":
                figures, cost = self._select(model, request.seed, forgotten)
                return EvaluateReply(site=self.name, selection=figures, cost=cost, seconds=time.monotonic() - begin)
            case "reference":
                if request.reference is None:
                    raise WireError("a reference evaluation names no reference")
                cost = self._keep_reference(model, request.reference, forgotten)
                return EvaluateReply(site=self.name, cost=cost, seconds=time.monotonic() - begin)
            case "audit":
                # Where nobody is to be forgotten there is nothing to compare: utility on the test patients suffices.
                here = bool(forgotten)
                sets = AuditSets(
                    forget=self._score(model, forgotten),
                    retain=self._score(model, self.patients(Subset.TRAIN)) if here else None,
                    calibration=self._score(model, self.patients(Subset.CALIBRATION)) if here else None,
                    never_seen=self._score(model, self.patients(Subset.AUDIT)) if here else None,
                    test=self._score(model, self.patients(Subset.TEST)),
                )
                audit = audit_figures(
                    sets,
                    len(self.card.classes),
                    ReferenceScores(self.folder).load(
                        {"forget": sets.forget, "never_seen": sets.never_seen, "calibration": sets.calibration}
                    ),
                    draws=request.decision.bootstrap,
                    rng=np.random.default_rng(derive_seed(request.seed, self.name, "audit")),
                )
                self._records.audited(campaign, audit)
                scored = (sets.forget, sets.retain, sets.calibration, sets.never_seen, sets.test)
                cost = FORWARD * sum(len(s) for s in scored if s is not None)
                return EvaluateReply(site=self.name, audit=audit, cost=cost, seconds=time.monotonic() - begin)

    def adopt(self, state: State, request: AdoptRequest) -> AdoptReply:
        """Keep a published version as the base, close the revocations it settles, and delete what remembers.

        May be repeated, also after it was cut short anywhere.

        Raises:
            CheckpointError: the weights are not the version's, or of another model.
        """
        self._load(state)
        purged, settled = self._records.adopt(state, request, self.revocations.pending)
        closed = close_revocations(self.folder, settled, at=datetime.now(UTC))
        # Also of those whom an earlier call closed before it was cut short, and of those who were never trained on.
        self.purge_patients(self.revocations.tombstones - self.revocations.pending)
        ReferenceScores(self.folder).purge()
        self.bases.clear()
        return AdoptReply(site=self.name, purged=tuple(sorted(purged)), closed=closed)

    def purge_patients(self, patients: Collection[str]) -> None:
        """Delete pixels, reports and tokens of patients; the hospital's own records are not touched.

        Raises:
            OutputError: they cannot be deleted.
        """
        of_files = {self.cache.digest(s.image) for s in self.cohort.of(patients).studies if s.image.is_file()}
        noted = {row.digest for row in self._file.studies if row.patient in patients}
        self.cache.discard_digests((of_files | noted) - {""})
        with locked(self.folder):
            drop_studies(self.folder, patients)
        self._read()

    def _select(self, model: ImageTextModel, seed: int, forgotten: frozenset[str]) -> tuple[SelectionFigures, float]:
        sets = SelectionSets(
            forget=self._score(model, forgotten),
            validation=self._score(model, self.patients(Subset.VALIDATION)),
            # Without patients to forget there is nothing to compare, and nothing to pay for.
            calibration=self._score(model, self.patients(Subset.CALIBRATION)) if forgotten else None,
        )
        rng = np.random.default_rng(derive_seed(seed, self.name, "selection"))
        cost = FORWARD * sum(len(s) for s in (sets.forget, sets.validation, sets.calibration) if s is not None)
        return select_figures(sets, len(self.card.classes), rng), cost

    def _keep_reference(self, model: ImageTextModel, number: int, forgotten: frozenset[str]) -> float:
        sets = {
            "forget": self._score(model, forgotten),
            "never_seen": self._score(model, self.patients(Subset.AUDIT)),
            "calibration": self._score(model, self.patients(Subset.CALIBRATION)),
        }
        if sets["forget"] is None:
            return 0.0
        ReferenceScores(self.folder).keep(number, sets)
        return FORWARD * sum(len(s) for s in sets.values() if s is not None)

    def scores(self, state: State, subset: Subset) -> Scores | None:
        """Rows of one set, for those who are at the site: nothing that handles messages calls this."""
        return self._score(self._load(state), self.patients(subset))

    def _score(self, model: ImageTextModel, patients: frozenset[str]) -> Scores | None:
        studies = self._studies(patients)
        return None if studies is None else score(model, studies)

    def _studies(self, patients: frozenset[str], *, learn: bool = False) -> StudyTensors | None:
        """Tensors of these patients, None for nobody; to `learn` from, they leave out who revokes meanwhile.

        Sets that are asked for no longer are let go.
        """
        if not patients:
            return None
        if (patients, learn) not in self._tensors:
            if len(self._tensors) > 16:
                self._tensors.clear()
            withdrawn = (lambda: self.revocations.tombstones) if learn else None
            studies = self.cohort.of(patients).studies
            self._tensors[patients, learn] = StudyTensors(studies, self.cache, self.tokenizer, withdrawn)
        return self._tensors[patients, learn]

    def _load(self, state: State) -> ImageTextModel:
        if self._model is None:
            self._model = self.card.build().to(self.device)
        check_state(state, self._model.state_dict(), where="received weights")
        self._model.load_state_dict(dict(state))
        return self._model


def _in_half(site: str, patient: str, reference: int) -> bool:
    """Whether a patient is in the random half that reference model `reference` is trained on."""
    return hashlib.sha256(f"{site}/{patient}/reference/{reference}".encode()).digest()[0] % 2 == 0
