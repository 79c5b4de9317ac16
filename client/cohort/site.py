"""One hospital: what the Flower handlers call."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from torch import Tensor

from client.cohort.received_weights import ReceivedWeights
from client.cohort.rehearsals.site_rehearsals import SiteRehearsals
from client.cohort.scores.reference_scores import purge_references
from client.cohort.scores.site_folds import keep_fold_scores, train_fold_models
from client.cohort.scores.site_scoring import audit, scored, select
from client.cohort.site_data import SiteData
from client.cohort.site_records import SiteRecords
from client.cohort.site_unlearning import SiteUnlearning
from client.revocations.access import Access
from client.revocations.revocation import Receipt
from client.revocations.revocation import State as RevocationState
from client.settings import SiteFolder
from client.settings_sections import BoundsConfig
from common.errors import CohortError, RefusedError
from common.learning.config import Precision
from common.learning.device import derive_seed
from common.learning.evaluation.scores import Scores
from common.learning.model.checkpoint import check_state
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Cohort, Subset
from common.learning.training import fit
from common.protocol.messages import (
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
from common.protocol.rehearsals import RehearseReply, RehearseRequest

State = Mapping[str, Tensor]


class Site:
    """A hospital's data and its revocations, opened from its folder.

    A revocation takes effect at once, even in a running training: no later batch contains the patient.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = SiteData(folder)
        self._consent = self._data.consent
        self.name = self._data.file.name
        self.card = self._data.file.card
        self.tokenizer = self._data.tokenizer
        self.cache = self._data.cache
        self.tensors = self._data.tensors
        place = SiteFolder(folder)
        self._records = SiteRecords(place, self._consent)
        settings = place.settings() if place.settings_file.exists() else None
        self.device = self._data.device
        self.received_weights = ReceivedWeights(
            folder, lambda: self._fresh().state_dict(), self.card.model, self.card.encoders
        )
        self._model: ImageTextModel | None = None
        self._unlearning = SiteUnlearning(self._data, self._records, self._load, self.access)

        # A campaign that crashed, or was abandoned elsewhere, sends nothing. After this time its requests have expired.
        bounds = settings.bounds if settings else BoundsConfig()
        for stale in self._consent.stale_campaigns(datetime.now(UTC) - timedelta(hours=bounds.max_lifetime_hours)):
            self._close_access(stale)

    @property
    def cohort(self) -> Cohort:
        """The studies registered here."""
        return self._data.cohort

    @property
    def stopped(self) -> frozenset[str]:
        """Patients here who have revoked, as currently recorded on disk."""
        return self._consent.stopped()

    def revoke(self, patients: Collection[str], *, received: datetime | None = None) -> Receipt:
        """Record revocations, received now by default: no train or retain batch contains these patients again.

        Raises:
            CohortError: some patients are not known here; nothing is recorded.
        """
        return self._consent.revoke(patients, received)

    def patients(self, subset: Subset) -> frozenset[str]:
        """Patients of one of the five sets who have not revoked."""
        return self._data.patients(subset)

    @property
    def forget(self) -> frozenset[str]:
        """Pending patients who were trained on."""
        return self._data.registered(Subset.TRAIN) & self._consent.pending()

    @contextmanager
    def access(self, campaign: int) -> Iterator[Access]:
        """Open the access to the patients whom a campaign must forget here; closes that of an earlier campaign first.

        Raises:
            RefusedError: raised by the access when it is used after its end.
        """
        for earlier in self._consent.open_campaigns().keys() - {campaign}:
            self._close_access(earlier)
        with self._consent.access(campaign) as access:
            yield access

    def status(self) -> StatusReply:
        """Counts for the coordinator."""
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
        """Train locally on all patients who have not revoked. The received model is scored first.

        `campaign` and `step` name the occasion in the site's records, here and in the methods below.
        """
        begin = time.monotonic()
        _refuse_reference(request.reference)
        studies = self._data.to_learn(Subset.TRAIN, campaign)
        if studies is None:
            raise CohortError("nobody to train on", where=self.name)
        model = self._load(state)
        # Before anybody is read: an interrupted use has happened, too.
        self._records.used(state, {study.patient for study in studies.studies}, campaign, step, "train")
        with self.access(campaign) as access:
            received_figures, cost = select(model, self._data, request.seed, access)

        # Each site and each round has a seed of its own, so that no two hospitals draw alike.
        training = fit(
            model,
            studies,
            request.config,
            ranking_weight=self.card.model.ranking_weight,
            epochs=request.epochs,
            seed=derive_seed(request.seed, self.name, request.round),
        )

        return model, TrainReply(
            site=self.name,
            loss=training.loss,
            cost=cost + training.cost,
            seconds=time.monotonic() - begin,
            received=received_figures,
        )

    def train_folds(
        self, state: State, request: TrainRequest, *, campaign: int = 0, step: str = "train"
    ) -> tuple[State, TrainReply]:
        """Train fold models, each without the patients of its fold; nothing of their weights is kept here."""
        begin = time.monotonic()
        studies = self._data.to_learn(Subset.TRAIN, campaign)
        if studies is None:
            raise CohortError("nobody to train on", where=self.name)
        self._records.used(state, {study.patient for study in studies.studies}, campaign, step, "train")
        after, training = train_fold_models(self._load, state, self._data, request, campaign)
        seconds = time.monotonic() - begin

        return after, TrainReply(site=self.name, loss=training.loss, cost=training.cost, seconds=seconds)

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
        return self._unlearning.run(state, request, campaign=campaign, step=step, precision=precision)

    def sent(self, campaign: int, digest: str) -> None:
        """Record the digest of the weights that were sent as the unlearned ones."""
        self._unlearning.sent(campaign, digest)

    def evaluate(
        self, state: State, request: EvaluateRequest, *, campaign: int = 0, step: str = "evaluate"
    ) -> EvaluateReply:
        """Score the received model for the requested purpose."""
        begin = time.monotonic()
        _refuse_reference(request.reference)
        if request.purpose == "folds":
            cost = keep_fold_scores(self._load, state, self._data, request.folds)
            return EvaluateReply(site=self.name, cost=cost, seconds=time.monotonic() - begin)
        model = self._load(state)

        with self.access(campaign) as access:
            self._records.used(state, access.patients, campaign, step, "evaluate")
            if request.purpose == "selection":
                figures, cost = select(model, self._data, request.seed, access)
                return EvaluateReply(site=self.name, selection=figures, cost=cost, seconds=time.monotonic() - begin)

            site_figures, cost = audit(model, self._data, request, access)
            self._records.audited(campaign, site_figures)
            return EvaluateReply(site=self.name, audit=site_figures, cost=cost, seconds=time.monotonic() - begin)

    def rehearse(self, state: State | None, request: RehearseRequest) -> tuple[State, RehearseReply]:
        """One step of a wave of rehearsals; without `state` their end. See `rehearsals/site_rehearsals.py`.

        Each step is logged before anybody is read.

        Raises:
            RefusedError: the model in use saw patients who have been forgotten since.
        """
        begin = time.monotonic()
        self._records.refuse_retired(request.version)
        rehearsals = SiteRehearsals(self._data, self._load, request)
        patients = sum(one.patients for one in rehearsals.own)
        self._records.rehearsed(request.qualification, request.step, len(rehearsals.own), patients)
        after, reply = rehearsals.carry_out(state)

        return after, reply.model_copy(update={"seconds": time.monotonic() - begin})

    def adopt(self, state: State, request: AdoptRequest) -> AdoptReply:
        """Keep a published version as the base, close the revocations it settles, and purge their patients' data.

        May be repeated, also after an interruption.

        Raises:
            CheckpointError: the weights differ from the version's, or belong to another model.
        """
        self._load(state)
        # The version first: a revocation is closed only once the weights that answer it are on the disk.
        purged_digests, settled_pseudonyms = self._records.adopt(state, request, self._consent.pending_pseudonyms())
        after = RevocationState.UNLEARNED if request.how == "unlearned" else RevocationState.RETRAINED
        closed_count = self._consent.settle(settled_pseudonyms, after, request.campaign, request.digest, request.reason)
        # Also for patients whom an interrupted call has closed, and for those who were never trained on.
        self._close_access(request.campaign)

        return AdoptReply(site=self.name, purged=tuple(sorted(purged_digests)), closed=closed_count)

    def purge_patients(self, patients: Collection[str]) -> dict[str, int]:
        """Delete pixels, reports and tokens of patients; see `SiteData.purge`."""
        return self._data.purge(patients)

    def _close_access(self, campaign: int) -> None:
        """Delete what remembers the patients of a campaign, and record that it no longer reads them.

        Pixels of patients who wait for another campaign are deleted if they can be decoded again.
        """
        waiting = self._data.discard_waiting()
        purge_counts = self.purge_patients(self._consent.done())
        for what, count in waiting.items():
            purge_counts[what] += count
        purge_counts |= purge_references(self.folder)
        purge_counts["working"] = self.received_weights.clear()
        # Last: the counts are of what is gone.
        self._consent.closed(campaign, purge_counts)

    def scores(self, state: State, subset: Subset) -> Scores | None:
        """Scores of one set, for use at the site only: no message handler calls this."""
        return scored(self._load(state), self._data.to_score(subset))

    def _load(self, state: State) -> ImageTextModel:
        model = self._fresh()
        # `load_state_dict` would also take values that are not finite.
        check_state(state, model.state_dict(), where="received weights")
        model.load_state_dict(dict(state))
        return model

    def _fresh(self) -> ImageTextModel:
        """The model of this process, built once: with any weights but for those of its frozen layers."""
        if self._model is None:
            self._model = self.card.build().to(self.device)
        return self._model


def _refuse_reference(number: int | None) -> None:
    if number is not None:
        raise RefusedError("reference models are no longer trained or scored: the coordinator has an earlier version")
