"""The qualification of a stream: rehearsed before anybody revokes, then asked about every campaign."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import CohortError
from server.campaign.campaign import Campaign
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.result import Result
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from simulations.comparison.world import World
from simulations.result import Cost, DecisionResult
from simulations.run.experiment import OnProgress
from simulations.run.qualified import RememberingJournal, judge_by_ladder
from simulations.run.qualify import Qualifying
from simulations.stream.record import QualificationRecord, SeedRecord


@dataclass(frozen=True, slots=True)
class StreamQualification:
    """Rehearses and judges in one seed; `folder` keeps the rehearsals."""

    world: World
    folder: Path
    on_progress: OnProgress

    def rehearse(self, federation: Federation, original: State) -> QualificationRecord:
        """Rehearse with the original model, while nobody has revoked."""
        federation.meter = Meter()
        try:
            federation.status()
            result = self._of_lineage("original").rehearse(federation, original)
        except CohortError as error:
            # The stream goes on, and shows what the ladder does without a qualification.
            return QualificationRecord(qualified=False, rehearsals=0, findings=(error.problem,), cost=Cost())

        return QualificationRecord(
            qualified=result.qualification.qualified,
            rehearsals=result.qualification.rehearsals,
            findings=tuple(f"{finding.part}: {finding.text}" for finding in result.qualification.findings),
            cost=Cost(**asdict(federation.meter)),
        )

    def decide(self, campaign: Campaign, record: SeedRecord, journal: RememberingJournal) -> DecisionResult:
        """By the ladder if the stream qualifies, else by the campaign's own audit."""
        qualification = record.qualification
        if qualification is None:
            return DecisionResult.of(campaign.decision)

        retraining = max((one.number for one in record.campaigns if one.how == "retrained"), default=0)
        # A retraining begins a lineage that nobody rehearsed; the ladder then says so.
        lineage = f"retrained {retraining}" if retraining else "original"
        result = FolderJournal(self.folder).body("result", Result) if qualification.rehearsals else None
        missing = "" if result else "; ".join(qualification.findings)

        return judge_by_ladder(campaign, campaign.before, self._of_lineage(lineage), result, journal, missing)

    def _of_lineage(self, lineage: str) -> Qualifying:
        return Qualifying(
            self.world.config, self.world.sites, len(self.world.card.classes), lineage, self.folder, self.on_progress
        )
