"""One hospital: what the Flower handlers act on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from torch import Tensor

from client.cohort.received_weights import ReceivedWeights
from client.cohort.reference_scores import ReferenceScores
from client.cohort.site_consent import SiteConsent
from client.cohort.site_files import drop_studies, read_site
from client.cohort.site_records import SiteRecords
from client.evidence import replay
from client.revocations.access import Access
from client.revocations.revocation import Receipt
from client.revocations.revocation import State as RevocationState
from client.revocations.tombstones.overview import cohort_lock
from client.settings import BoundsConfig, SiteFolder
from common.errors import CohortError, RefusedError, WireError
from common.learning.config import Precision
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import derive_seed, pick_device
from common.learning.evaluation.figures import SelectionFigures, SiteFigures
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, SelectionSets, audit_figures, select_figures
from common.learning.model.checkpoint import check_state
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.training import FORWARD, fit, score
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from common.protocol.wire import (
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
        self._consent = SiteConsent(SiteFolder(folder), self._file.subsets)
        self.name = self._file.name
        self.card = self._file.card
        place = SiteFolder(folder)
        self._records = SiteRecords(place, self._consent)
        settings = place.settings() if place.settings_file.exists() else None
        self.device = pick_device(settings.device if settings else self._file.device)
        self.tokenizer = load_tokenizer(self.card.data.tokenizer, self.card.data.max_tokens)
        self.cache = ImageCache(folder / self._file.cache, self.card.data.image_size, self.card.data.cache_bytes)
        self.received_weights = ReceivedWeights(folder, lambda: self.card.build().state_dict(), self.card.model)
        self._model: ImageTextModel | None = None
        # A campaign that crashed or was given up elsewhere says nothing; after so long none of its requests is valid.
        bounds = settings.bounds if settings else BoundsConfig()
        for stale in self._consent.stale_campaigns(datetime.now(UTC) - timedelta(hours=bounds.max_lifetime_hours)):
            self._close_access(stale)

    def _read(self) -> None:
        self._file = read_site(self.folder)
        self.cohort = self._file.cohort
        self._present = frozenset(self.cohort.patients)
        self._tensors: dict[frozenset[str], StudyTensors] = {}

    @property
    def stopped(self) -> frozenset[str]:
        """Patients here who have revoked, as it stands on disk now."""
        return self._consent.stopped()

    def revoke(self, patients: Collection[str], *, received: datetime | None = None) -> Receipt:
        """Record revocations, received now unless told otherwise: no train or retain batch holds these patients again.

        Raises:
            CohortError: some are not known here; nothing is recorded then.
        """
        return self._consent.revoke(patients, received)

    def patients(self, subset: Subset) -> frozenset[str]:
        """Patients of one of the five sets who have not revoked."""
        return self._of(subset) - self.stopped

    @property
    def forget(self) -> frozenset[str]:
        """Pending patients who were trained on."""
        return self._of(Subset.TRAIN) & self._consent.pending()

    @contextmanager
    def access(self, campaign: int) -> Iterator[Access]:
        """Reach those whom a campaign is to forget here; that of an earlier campaign is closed before.

        Raises:
            RefusedError: by what it gives, when it is used after its end.
        """
        for earlier in self._consent.open_campaigns().keys() - {campaign}:
            self._close_access(earlier)
        with self._consent.access(campaign) as access:
            yield access

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
            first_due=self._consent.waiting().first_due,
        )

    def train(
        self, state: State, request: TrainRequest, *, campaign: int = 0, step: str = "train"
    ) -> tuple[ImageTextModel, TrainReply]:
        """Local training on everybody who has not revoked; the received model is scored first, unless a reference.

        `campaign` and `step` are what the coordinator calls the occasion, for the site's records; so below.
        """
        begin = time.monotonic()
        studies = self._to_learn(Subset.TRAIN, campaign, request.reference)
        if studies is None:
            raise CohortError("nobody to train on", where=self.name)
        model = self._load(state)
        self._records.used(state, {study.patient for study in studies.studies}, campaign, step, "train")
        received = None
        cost = 0.0
        if request.reference is None:
            with self.access(campaign) as access:
                received, cost = self._select(model, request.seed, access)

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
        self,
        state: State,
        request: UnlearnRequest,
        *,
        campaign: int = 0,
        step: str = "unlearn",
        precision: Precision = "fp32",
    ) -> tuple[ImageTextModel, UnlearnReply]:
        """Run the requested method on the pending patients; `precision` is that of the answer, for the record."""
        begin = time.monotonic()

        with self.access(campaign) as access:
            forget = self._to_forget(access)
            retain = self._to_learn(Subset.TRAIN, campaign)
            calibration = self._to_score(Subset.CALIBRATION)
            if forget is None:
                raise RefusedError(f"{self.name}: no revocation is pending")
            if retain is None or calibration is None:
                raise CohortError("needs retained and calibration patients to unlearn", where=self.name)
            model = self._load(state)
            self._records.used(state, {study.patient for study in forget.studies}, campaign, step, "unlearn")
            self._records.used(state, {study.patient for study in retain.studies}, campaign, step, "train")
            self._consent.begun(access)
            sets = UnlearnSets(forget, retain, calibration)
            cohort = self._commit(sets, request, state, campaign, precision)
            method = method_named(request.config.method)
            done = method(
                model,
                sets,
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
            cohort=cohort,
        )

    def sent(self, campaign: int, digest: str) -> None:
        """Write down which weights were sent as the unlearned ones."""
        place = SiteFolder(self.folder)
        record = replay.kept(place, campaign)
        if record is not None:
            replay.keep(place, record.model_copy(update={"unlearned": digest}))

    def _commit(
        self, sets: UnlearnSets, request: UnlearnRequest, state: State, campaign: int, precision: Precision
    ) -> str:
        """The commitment to a cohort, kept with what opens it; empty at a site that keeps no records."""
        place = SiteFolder(self.folder)
        if not campaign or not place.has_database:
            return ""
        known = {Path(row.image): row.digest for row in self._file.studies if row.digest}

        def digest(image: Path) -> str:
            return known.get(image) or self.cache.digest(image)

        record = replay.commit(
            sets, request, state, campaign=campaign, precision=precision, device=self.device.type, digest=digest
        )
        replay.keep(place, record)

        return record.cohort

    def evaluate(
        self, state: State, request: EvaluateRequest, *, campaign: int = 0, step: str = "evaluate"
    ) -> EvaluateReply:
        """Score the received model for the requested purpose."""
        begin = time.monotonic()
        model = self._load(state)

        with self.access(campaign) as access:
            self._records.used(state, access.patients, campaign, step, "evaluate")
            match request.purpose:
                case "selection":
                    figures, cost = self._select(model, request.seed, access)
                    return EvaluateReply(site=self.name, selection=figures, cost=cost, seconds=time.monotonic() - begin)
                case "reference":
                    if request.reference is None:
                        raise WireError("a reference evaluation names no reference")
                    cost = self._keep_reference(model, request.reference, access)
                    return EvaluateReply(site=self.name, cost=cost, seconds=time.monotonic() - begin)
                case "audit":
                    audit, cost = self._audit(model, request, access)
                    self._records.audited(campaign, audit)
                    return EvaluateReply(site=self.name, audit=audit, cost=cost, seconds=time.monotonic() - begin)

    def adopt(self, state: State, request: AdoptRequest) -> AdoptReply:
        """Keep a published version as the base, close the revocations it settles, and delete what remembers.

        May be repeated, also after it was cut short anywhere.

        Raises:
            CheckpointError: the weights are not the version's, or of another model.
        """
        self._load(state)
        purged, settled = self._records.adopt(state, request, self._consent.pending_pseudonyms())
        after = RevocationState.UNLEARNED if request.how == "unlearned" else RevocationState.RETRAINED
        closed = self._consent.settle(settled, after, request.campaign, request.digest, request.reason)
        # Also of those whom an earlier call closed before it was cut short, and of those who were never trained on.
        self._close_access(request.campaign)

        return AdoptReply(site=self.name, purged=tuple(sorted(purged)), closed=closed)

    def purge_patients(self, patients: Collection[str]) -> dict[str, int]:
        """Delete pixels, reports and tokens of patients; the hospital's own records are not touched.

        Raises:
            OutputError: they cannot be deleted.
        """
        of_files = {self.cache.digest(s.image) for s in self.cohort.of(patients).studies if s.image.is_file()}
        noted = {row.digest for row in self._file.studies if row.patient in patients}
        pixels = self.cache.discard_digests((of_files | noted) - {""})
        with cohort_lock(SiteFolder(self.folder)):
            studies = drop_studies(self.folder, patients)
        self._read()

        return {"pixels": pixels, "studies": studies}

    def _close_access(self, campaign: int) -> None:
        """Delete what remembers those whom a campaign reached, and write down that it reads them no more.

        Pixels of those who wait for another campaign go where they can be decoded again.
        """
        waiting = self.cohort.of(self.stopped - self._consent.done()).studies
        again = self.cache.discard({study.image for study in waiting if study.image.is_file()})
        purged = self.purge_patients(self._consent.done())
        purged["pixels"] += again
        purged["references"] = ReferenceScores(self.folder).purge()
        purged["working"] = self.received_weights.clear()
        self._consent.closed(campaign, purged)

    def _select(self, model: ImageTextModel, seed: int, access: Access) -> tuple[SelectionFigures, float]:
        sets = SelectionSets(
            forget=_scored(model, self._to_forget(access)),
            validation=_scored(model, self._to_score(Subset.VALIDATION)),
            # Without patients to forget there is nothing to compare, and nothing to pay for.
            calibration=_scored(model, self._to_score(Subset.CALIBRATION)) if access else None,
        )
        rng = np.random.default_rng(derive_seed(seed, self.name, "selection"))
        cost = FORWARD * sum(len(s) for s in (sets.forget, sets.validation, sets.calibration) if s is not None)
        return select_figures(sets, len(self.card.classes), rng), cost

    def _audit(self, model: ImageTextModel, request: EvaluateRequest, access: Access) -> tuple[SiteFigures, float]:
        # Where nobody is to be forgotten there is nothing to compare: utility on the test patients suffices.
        compared = bool(access)
        sets = AuditSets(
            forget=_scored(model, self._to_forget(access)),
            retain=_scored(model, self._to_score(Subset.TRAIN)) if compared else None,
            calibration=_scored(model, self._to_score(Subset.CALIBRATION)) if compared else None,
            never_seen=_scored(model, self._to_score(Subset.AUDIT)) if compared else None,
            test=_scored(model, self._to_score(Subset.TEST)),
        )
        figures = audit_figures(
            sets,
            len(self.card.classes),
            ReferenceScores(self.folder).load(
                {"forget": sets.forget, "never_seen": sets.never_seen, "calibration": sets.calibration}
            ),
            draws=request.decision.bootstrap,
            rng=np.random.default_rng(derive_seed(request.seed, self.name, "audit")),
        )
        scored = (sets.forget, sets.retain, sets.calibration, sets.never_seen, sets.test)

        return figures, FORWARD * sum(len(s) for s in scored if s is not None)

    def _keep_reference(self, model: ImageTextModel, number: int, access: Access) -> float:
        sets = {
            "forget": _scored(model, self._to_forget(access)),
            "never_seen": _scored(model, self._to_score(Subset.AUDIT)),
            "calibration": _scored(model, self._to_score(Subset.CALIBRATION)),
        }
        if sets["forget"] is None:
            return 0.0
        ReferenceScores(self.folder).keep(number, sets)
        return FORWARD * sum(len(s) for s in sets.values() if s is not None)

    def scores(self, state: State, subset: Subset) -> Scores | None:
        """Rows of one set, for those who are at the site: nothing that handles messages calls this."""
        return _scored(self._load(state), self._to_score(subset))

    def _to_learn(self, subset: Subset, campaign: int, reference: int | None = None) -> StudyTensors | None:
        """A set to learn from, None for nobody; who revokes meanwhile is in no later batch.

        Who was readmitted since the campaign began waits for the next one.

        Of a `reference` model, the half of the patients that it is trained on. It takes no patients, so that none can
        be handed to it who has revoked.
        """
        patients = self.patients(subset) - self._consent.readmitted_during(campaign)
        if reference is not None:
            patients = frozenset(p for p in patients if _in_half(self.name, p, reference))
        return self._studies(patients)

    def _to_score(self, subset: Subset) -> StudyTensors | None:
        """A set to score, None for nobody."""
        return self._studies(self.patients(subset))

    def _to_forget(self, access: Access) -> StudyTensors | None:
        """Those whom an access reaches and who were trained on, None for nobody; kept by nothing."""
        of_train = self._of(Subset.TRAIN)
        studies = tuple(study for study in access.studies(self.cohort) if study.patient in of_train)
        if not studies:
            return None
        return StudyTensors(studies, self.cache, self.tokenizer, branches=access.branches(studies))

    def _studies(self, patients: frozenset[str]) -> StudyTensors | None:
        """Tensors of these patients; sets that are asked for no longer are let go."""
        if not patients:
            return None
        if patients not in self._tensors:
            if len(self._tensors) > 16:
                self._tensors.clear()
            studies = self.cohort.of(patients).studies
            self._tensors[patients] = StudyTensors(studies, self.cache, self.tokenizer, self._consent.stopped)

        return self._tensors[patients]

    def _load(self, state: State) -> ImageTextModel:
        if self._model is None:
            self._model = self.card.build().to(self.device)
        check_state(state, self._model.state_dict(), where="received weights")
        self._model.load_state_dict(dict(state))
        return self._model


def _scored(model: ImageTextModel, studies: StudyTensors | None) -> Scores | None:
    """None for nobody, or when the last of them has revoked meanwhile."""
    found = None if studies is None else score(model, studies)
    return found if found else None


def _in_half(site: str, patient: str, reference: int) -> bool:
    """Whether a patient is in the random half that reference model `reference` is trained on."""
    return hashlib.sha256(f"{site}/{patient}/reference/{reference}".encode()).digest()[0] % 2 == 0
