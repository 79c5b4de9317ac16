"""Unlearning at a hospital: from the access to the pending patients to the record that opens its commitment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from client.cohort.scores.site_folds import standings_of
from client.cohort.site_data import SiteData
from client.cohort.site_records import SiteRecords
from client.evidence import replayable
from client.revocations.access import Access
from client.settings import SiteFolder
from common.errors import CohortError, RefusedError
from common.learning.config import Precision
from common.learning.device import derive_seed
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from common.protocol.messages import (
    UnlearnReply,
    UnlearnRequest,
)

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class SiteUnlearning:
    """Unlearns with the parts of a `Site`.

    Attributes:
        load: checks weights and loads them into the site's model.
        access: opens the access to the patients whom a campaign must forget here.
    """

    data: SiteData
    records: SiteRecords
    load: Callable[[State], ImageTextModel]
    access: Callable[[int], AbstractContextManager[Access]]

    def run(
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
        name = self.data.file.name

        with self.access(campaign) as access:
            forget = self.data.to_forget(access)
            retain = self.data.to_learn(Subset.TRAIN, campaign)
            calibration = self.data.to_score(Subset.CALIBRATION)
            if forget is None:
                raise RefusedError(f"{name}: no revocation is pending")
            if retain is None or calibration is None:
                raise CohortError("needs retained and calibration patients to unlearn", where=name)

            model = self.load(state)
            self.records.used(state, {study.patient for study in forget.studies}, campaign, step, "unlearn")
            self.records.used(state, {study.patient for study in retain.studies}, campaign, step, "train")
            # From here on the model may have begun to forget: these revocations can no longer be refused.
            self.data.consent.begun(access)

            standings = standings_of(self.data, forget, calibration, request.config.fold_targets)
            sets = UnlearnSets(forget, retain, calibration, standings)

            # Before the method runs, so that the commitment cannot be fitted to its result.
            cohort = self._commit(sets, request, state, campaign, precision)
            method = method_named(request.config.method)
            unlearning = method(
                model,
                sets,
                request.config,
                ranking_weight=self.data.file.card.model.ranking_weight,
                seed=derive_seed(request.seed, name, "unlearn"),
                on_pass=nothing,
            )

        return model, UnlearnReply(
            site=name,
            passes=len(unlearning.passes),
            gaps=unlearning.passes[-1].gap,
            cost=unlearning.cost,
            seconds=time.monotonic() - begin,
            cohort=cohort,
        )

    def sent(self, campaign: int, digest: str) -> None:
        """Record the digest of the weights that were sent as the unlearned ones."""
        place = SiteFolder(self.data.folder)
        record = replayable.kept(place, campaign)
        if record is not None:
            replayable.keep(place, record.model_copy(update={"unlearned": digest}))

    def _commit(
        self, sets: UnlearnSets, request: UnlearnRequest, state: State, campaign: int, precision: Precision
    ) -> str:
        """Commit to a cohort, and keep what opens the commitment; empty at a site that keeps no records."""
        place = SiteFolder(self.data.folder)
        if not campaign or not place.has_database:
            return ""
        record = replayable.commit(
            sets,
            request,
            state,
            campaign=campaign,
            precision=precision,
            device=self.data.device.type,
            digest=self.data.image_digests(),
        )
        replayable.keep(place, record)

        return record.cohort
