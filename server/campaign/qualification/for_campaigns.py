"""The rung `qualified` of the ladder: what the last qualification says of a campaign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.evidence.outcomes.grounds import QualificationGrounds
from common.learning.evaluation.qualification.conformity import Process
from common.learning.evaluation.qualification.validity import Circumstances, lapsed
from server.campaign.campaign import Campaign
from server.campaign.qualification.result import Result
from server.campaign.qualification.standing import qualified
from server.rounds.journal import Journal
from server.rounds.unlearning.at_sites import Unlearned
from server.rounds.unlearning.base import Collected
from server.settings import Terms


@dataclass(frozen=True, slots=True)
class LastQualification:
    """See `ladder.Qualifier`.

    Attributes:
        result: of the last qualification that ended, also one that failed; None where there is none.
        now: under what a campaign runs that holds by these terms.
    """

    result: Callable[[], Result | None]
    now: Callable[[Terms], Circumstances]

    def uncovered(self, parent: str, collected: Collected, terms: Terms) -> str:  # noqa: ARG002 - see `Qualifier`
        """Why the last qualification says nothing of a campaign that forgets these patients; empty where it does."""
        result = self.result()
        if result is None:
            return "the procedure was never qualified"
        qualification = result.qualification
        if not qualification.qualified:
            failures = "; ".join(f"{finding.part}: {finding.text}" for finding in qualification.findings)
            return f"the last qualification failed: {failures}"
        if len(collected.forgetting) != 1:
            return f"{len(collected.forgetting)} hospitals forget at once, rehearsals are of one"

        rehearsal_terms = result.registered
        return "; ".join(
            lapsed(rehearsal_terms.plan, rehearsal_terms.circumstances, self.now(terms), collected.patients)
        )

    def grounds(self, parent: str, campaign: Campaign, terms: Terms, journal: Journal) -> QualificationGrounds | str:
        """What a candidate may rest on that conforms to the rehearsals, or why it does not."""
        why = self.uncovered(parent, campaign.collected, terms)
        result = self.result()
        if why or result is None:
            return why
        (site,) = campaign.collected.forgetting
        process = process_of(journal, site, campaign.collected.patients, terms.experiment.unlearn.tolerance)
        distance = campaign.figures.distance_by_site.get(site)
        grounds, reasons = qualified(result, self.now(terms), distance, process)

        return grounds or "; ".join(reasons)


def process_of(journal: Journal, site: str, patients: int, tolerance: float) -> Process | None:
    """How the unlearning of a campaign went, as the coordinator saw it; None if it is not on record."""
    record = journal.get(f"unlearn:{site}", Unlearned)
    if record is None:
        return None
    first_record = record[0]
    gap = max(first_record.reply.gaps) if first_record.reply.gaps else 0.0

    return Process(
        patients=patients, gap=gap, norm=first_record.norm, passes=first_record.reply.passes, reached=gap < tolerance
    )
