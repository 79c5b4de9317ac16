"""A site's records about its use of patients and versions, by pseudonym.

Without a database, e.g. in a simulation, nothing is recorded, and all pending patients belong to one campaign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from torch import Tensor

from client.cohort.holdings import HeldVersions
from client.cohort.participation import Participation, Use, members, record
from client.cohort.site_consent import SiteConsent
from client.database import opened
from client.evidence.event_log import SiteLog
from client.settings import SiteFolder
from common.learning.evaluation.figures import SiteFigures, reported_digest
from common.learning.model.checkpoint import state_digest
from common.protocol.messages import TRAIN, AdoptRequest


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """The records in a site's folder; `campaign` 0 means outside a campaign."""

    folder: SiteFolder
    consent: SiteConsent

    def used(self, state: Mapping[str, Tensor], patients: Collection[str], campaign: int, step: str, use: Use) -> None:
        """Record a use of patients that starts with the weights `state`.

        Raises:
            RefusedError: these weights were trained on patients who have been forgotten since.
        """
        if patients and self._kept:
            entry = Participation(campaign, step, use, state_digest(state), datetime.now(UTC))
            with opened(self.folder.database_url) as engine:
                self._versions(engine).check(entry.weights)
                record(engine, self.consent.pseudonyms(patients), entry)

    def adopt(
        self, state: Mapping[str, Tensor], request: AdoptRequest, pending: frozenset[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Keep a version and delete the retired ones; returns their digests, and the patients whom it settles.

        These are the pending patients whom the campaign unlearned here, or who were not in a retraining; nobody if it
        trained without forgetting. By pseudonym.

        Raises:
            CheckpointError: the weights differ from the digest.
            OutputError: the folder cannot be written.
            RefusedError: the version was retired before.
        """
        if not self._kept:
            return frozenset(request.retired), frozenset() if request.how == "trained" else pending
        with opened(self.folder.database_url) as engine:
            versions = self._versions(engine)
            versions.keep(request.digest, state, request.version)
            purged_digests = versions.retire(request.retired)

            if request.how == "trained":
                # The campaign had nobody to forget: versions that saw waiting patients remain in use elsewhere.
                settled_pseudonyms = frozenset[str]()
            elif request.how == "unlearned":
                settled_pseudonyms = pending & members(engine, request.campaign, "unlearn")
            else:
                settled_pseudonyms = pending - members(engine, request.campaign, "train", step=TRAIN)

            if self._enrolled:
                self._log(engine).adopted(
                    request.campaign, request.version, request.digest, request.how, settled_pseudonyms
                )
            return purged_digests, settled_pseudonyms

    def audited(self, campaign: int, figures: SiteFigures) -> None:
        """Record the figures that were reported about a candidate."""
        if campaign and self._kept and self._enrolled:
            digest = reported_digest(figures.membership, figures.groups["test"]["fused"])
            with opened(self.folder.database_url) as engine:
                read = any(member.forget_patients for member in figures.membership.values())
                self._log(engine).audited(campaign, digest, read_patients=read)

    def refuse_retired(self, digest: str) -> None:
        """Raise a `RefusedError` if weights were trained on patients who have been forgotten since."""
        if self._kept:
            with opened(self.folder.database_url) as engine:
                self._versions(engine).check(digest)

    def rehearsed(self, qualification: str, step: str, rehearsals: int, patients: int) -> None:
        """Log a step of rehearsals with patients of this site; raises like `SiteLog.rehearsed`."""
        if self._kept and self._enrolled:
            with opened(self.folder.database_url) as engine:
                self._log(engine).rehearsed(qualification, step, rehearsals, patients)

    def _versions(self, engine: Engine) -> HeldVersions:
        return HeldVersions(self.folder.root / "models", engine, lambda: datetime.now(UTC))

    def _log(self, engine: Engine) -> SiteLog:
        return SiteLog(self.folder, engine, lambda: datetime.now(UTC))

    @property
    def _enrolled(self) -> bool:
        """Whether there is a key to sign a log with."""
        return self.folder.settings_file.exists()

    @property
    def _kept(self) -> bool:
        return self.folder.has_database
