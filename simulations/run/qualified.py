"""The main job with a qualification before the revocations, so that the outcome may rest on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel
from torch import Tensor

from common.errors import CohortError
from common.learning.evaluation.figures import FederationFigures
from server.campaign.campaign import Campaign
from server.campaign.qualification.for_campaigns import LastQualification
from server.campaign.qualification.result import Result
from server.campaign.verdict.judging import judge_candidate
from server.campaign.verdict.ladder import Ladder
from server.rounds.aggregation import State
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.settings import GateConfig, PolicyConfig, Terms
from simulations.result import BranchRehearsals, DecisionResult, RehearsalsResult
from simulations.run.qualify import Qualifying, QualifyRun
from simulations.run.run_result import Outcome


class RememberingJournal(MemoryJournal):
    """Keeps what each step left, weights aside: conformity looks at how the unlearning went."""

    def __init__(self, **known: BaseModel) -> None:
        super().__init__(**known)
        self._bodies: dict[str, BaseModel] = dict(known)

    def put(self, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None) -> None:  # noqa: ARG002
        """See `Journal`."""
        self._bodies[step] = body

    def finished(self) -> MemoryJournal:
        """A journal of all that was kept."""
        return MemoryJournal(**self._bodies)


def judge_by_ladder(
    campaign: Campaign,
    before: FederationFigures,
    qualifying: Qualifying,
    result: Result | None,
    journal: MemoryJournal,
    missing: str = "",
) -> DecisionResult:
    """The outcome of a campaign under the default policy, as a coordinator with this qualification decides it.

    Args:
        result: of the qualification; None where nothing was rehearsed.
        missing: why nothing was rehearsed.
    """
    experiment = qualifying.config.experiment
    terms = Terms(experiment=experiment, policy=PolicyConfig(), gate=GateConfig())
    # The campaign's own audit is the lowest step of the ladder; rehearsals count where it cannot decide.
    own = judge_candidate(before, campaign.figures, campaign.collected, experiment.decision)
    qualification = LastQualification(lambda: result, lambda _: qualifying.circumstances(campaign.collected.registered))
    finished_journal = journal.finished() if isinstance(journal, RememberingJournal) else journal
    verdict = Ladder(terms.policy, experiment.decision).climb(
        own,
        lambda: missing or qualification.grounds("original", campaign, terms, finished_journal),
        datetime.now(UTC),
    )

    return DecisionResult(outcome=verdict.outcome, reasons=[*verdict.vetoes, *verdict.reasons], grounds=verdict.grounds)


@dataclass
class QualifiedExperiment(QualifyRun):
    """Rehearses before anybody revokes, and lets the ladder decide."""

    _missing: str = ""
    """Why nothing was rehearsed."""

    def _before_revocations(self, federation: Federation, original: State) -> None:
        try:
            self.results.append(self.qualifying.rehearse(federation, original))
        except CohortError as error:
            # Known before the first rehearsal; the campaign goes down the ladder without one.
            self._missing = error.problem

    def _journal(self, before: FederationFigures) -> RememberingJournal:
        return RememberingJournal(before=before)

    def _decided(self, campaign: Campaign, before: FederationFigures, journal: MemoryJournal) -> DecisionResult | None:
        result = self.results[0] if self.results else None
        return judge_by_ladder(campaign, before, self.qualifying, result, journal, self._missing)

    def _rehearsals(self, unlearned: Outcome) -> RehearsalsResult | None:
        if not self.results:
            return None
        result = self.results[0]
        qualification = result.qualification
        figures = unlearned.figures
        distances = {} if figures is None else figures.distance_by_site
        if not qualification.branches or not distances:
            return None

        return RehearsalsResult(
            rehearsals=qualification.rehearsals,
            patients=qualification.patients,
            controls=qualification.controls,
            margin=result.registered.plan.auc_margin,
            branches={
                name: BranchRehearsals(difference=b.difference, low=b.low, high=b.high, original=b.original)
                for name, b in qualification.branches.items()
            },
            distances=list(qualification.distances),
            distance=max(distances.values()),
        )
