"""A campaign: from pending revocations to a new global model, its audit and the decision.

Every step passes through a journal, so that a campaign that was cut short goes on from the last finished one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from common.errors import RefusedError, UnavailableError
from common.evidence.outcomes.grounds import Descent
from common.learning.config import DecisionConfig, ExperimentConfig
from common.learning.evaluation.decision import Decision, decide
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.merge import AuditMerge
from common.learning.records import Subset
from common.protocol.messages import EvaluateRequest, StatusReply
from server.campaign.candidate import make_candidate
from server.campaign.verdict.judging import decide_exact, trained_parts
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import Journal, step
from server.rounds.selection import evaluate
from server.rounds.states import CampaignState
from server.rounds.training import OnRound, Round
from server.rounds.unlearning.base import (
    Collected,
    NotUnlearnedError,
    Past,
    chosen_aggregation,
)


class NobodyRetainedError(UnavailableError):
    """A hospital that is to forget all of its patients cannot unlearn: it has none to keep the model near to."""


class UndecidableError(RefusedError):
    """No evidence could carry a campaign for so few patients, however well they are forgotten."""

    def __init__(self, descents: tuple[Descent, ...]) -> None:
        self.descents = descents
        super().__init__("; ".join(one.reason for one in descents))


class NobodyWaitsError(RefusedError):
    """The sites that a campaign was planned for have no revocation any more."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """The candidate, how it came about, what it cost, and what was decided."""

    state: State
    collected: Collected
    rounds: tuple[Round, ...]
    unlearn_cost: Meter
    retain_cost: Meter
    before: FederationFigures
    figures: FederationFigures
    decision: Decision


def audit(
    federation: Federation,
    state: Mapping[str, Tensor],
    config: DecisionConfig,
    seed: int,
    collected: Collected | None = None,
) -> FederationFigures:
    """Audit a model at every site and merge. Opens the audit patients: once per campaign and candidate.

    Membership is that of the sites whose revocations were `collected`, or of all that say so without it.
    """
    replies = evaluate(federation, state, EvaluateRequest(purpose="audit", seed=seed, decision=config))
    merging = AuditMerge(None if collected is None else collected.eligible(Subset.AUDIT))
    for name, reply in replies:
        if reply.audit is not None:
            merging.add(name, reply.audit)

    if not len(merging):
        raise UnavailableError("no site returned an audit")
    return merging.result()


def collect(federation: Federation) -> Collected:
    """Ask every site for its counts."""
    return collected_of(federation, federation.status(), None, "auto")


def collected_of(
    federation: Federation, statuses: Mapping[str, StatusReply], chosen: Collection[str] | None, aggregation: str
) -> Collected:
    """What the sites' answers come to; of those with revocations only the `chosen` forget, or all without a choice."""
    waiting = {
        name: count
        for name, count in federation.waiting(statuses).items()
        if count and (chosen is None or name in chosen)
    }
    return Collected(
        forgetting=tuple(waiting),
        retain_studies=federation.retained(statuses),
        patients=sum(waiting.values()),
        pending=waiting,
        registered={name: status.registered for name, status in statuses.items()},
        aggregation=chosen_aggregation(aggregation, len(waiting)),
    )


class Aside(BaseModel):
    """Sites that a campaign goes on without, although it was planned for them."""

    sites: tuple[str, ...] = ()


def without_aside(journal: Journal, collected: Collected) -> Collected:
    """What was collected, less the sites that the campaign has set aside since."""
    aside = journal.get("aside", Aside)
    if aside is None:
        return collected
    pending_elsewhere = {name: count for name, count in collected.pending.items() if name not in aside[0].sites}

    return collected.model_copy(
        update={
            "forgetting": tuple(pending_elsewhere),
            "pending": pending_elsewhere,
            "patients": sum(pending_elsewhere.values()),
        }
    )


def _forgetting(
    federation: Federation, journal: Journal, chosen: Collection[str] | None, aggregation: str
) -> tuple[Collected, None]:
    """As `collect`, with a note of who was chosen and does not forget.

    Raises:
        NotUnlearnedError: a chosen site is away, and no other one forgets.
        NobodyWaitsError: the chosen sites answered, and nobody waits there any more.
    """
    statuses = federation.status()
    collection = collected_of(federation, statuses, chosen, aggregation)
    sites_dropped = sorted(set(chosen or ()) - set(collection.forgetting))
    away = [name for name in sites_dropped if name not in statuses]

    if not collection.forgetting:
        if chosen is None or away:
            silent = f"{', '.join(away)} did not answer; " if away else ""
            raise NotUnlearnedError(f"{silent}no site that answers has a pending revocation", away)

        raise NobodyWaitsError(f"no revocation waits any more at {', '.join(sites_dropped)}")

    for name in sites_dropped:
        journal.note("dropped", "it did not answer" if name in away else "no revocation waits there any more", name)
    journal.note("aggregation", f"{collection.aggregation} of {', '.join(collection.forgetting)}")

    return collection, None


def run_campaign(
    federation: Federation,
    parent: Mapping[str, Tensor],
    config: ExperimentConfig,
    *,
    journal: Journal,
    folder: Path,
    on_round: OnRound,
    quorum: float = 0.0,
    past: Past | None = None,
    chosen: Collection[str] | None = None,
    out_of_reach: Callable[[Collected], tuple[Descent, ...]] = lambda _: (),
    least_retention: Callable[[Collected], int] = lambda _: 0,
) -> Campaign:
    """Unlearn by the method that is set, run retention rounds at all sites, audit once, decide.

    `past` is how the parent was trained, for the methods that need it. The `chosen` sites forget, without it all that
    have revocations. `out_of_reach` says why unlearning what was collected could not be accepted in any case.
    `least_retention` returns the fewest retention rounds for what was collected.
    Of the retention rounds the one is kept whose worst branch is nearest to .5 on the *calibration* patients.

    Raises:
        NotUnlearnedError: no revocation is pending, or a forgetting site did not answer.
        UnavailableError: too few sites answered.
        NobodyRetainedError: all patients of a forgetting site have revoked, as when it leaves.
        NobodyWaitsError: the chosen sites have no revocation any more.
        UndecidableError: as `out_of_reach` says.
    """
    journal.enter(CampaignState.COLLECTING)
    # Rounding errors of an earlier line of rounds do not belong to this one (ADR 7).
    federation.downlink.begin()
    collection, _ = step(
        journal,
        "collect",
        Collected,
        lambda: _forgetting(federation, journal, chosen, config.campaign.aggregation),
    )
    # The step stays as it was recorded; sites that the campaign has set aside since are taken out here.
    collection = without_aside(journal, collection)
    # After a restart nobody is asked again.
    federation.registered.update(collection.registered)
    # Both before the first audit: it would cost every site an evaluation for nothing.
    if sites_without := [name for name in collection.forgetting if not collection.retain_studies.get(name)]:
        raise NobodyRetainedError(f"nobody is left to retain at {', '.join(sites_without)}")
    if descents := out_of_reach(collection):
        raise UndecidableError(descents)
    fewest_rounds = least_retention(collection)
    before, _ = step(
        journal,
        "before",
        FederationFigures,
        lambda: (audit(federation, parent, config.decision, config.seed, collection), None),
    )
    candidate = make_candidate(
        federation,
        parent,
        collection,
        config,
        journal=journal,
        folder=folder,
        on_round=on_round,
        quorum=quorum,
        past=past,
        fewest_rounds=fewest_rounds,
    )
    journal.enter(CampaignState.EVALUATING)
    figures, _ = step(
        journal,
        "audit",
        FederationFigures,
        lambda: (audit(federation, candidate.state, config.decision, config.seed, collection), None),
    )
    journal.enter(CampaignState.DECIDING)

    return Campaign(
        candidate.state,
        collection,
        candidate.rounds,
        candidate.unlearn_cost,
        candidate.retain_cost,
        before,
        figures,
        decision_on(before, figures, candidate.state, config),
    )


def decision_on(
    before: FederationFigures, after: FederationFigures, state: Mapping[str, Tensor], config: ExperimentConfig
) -> Decision:
    """Of a candidate made by the method that is set: the audit decides, except about one that is exact."""
    if config.unlearn.method != "exact":
        return decide(before, after, config.decision)
    return decide_exact(before, after, config.decision, trained_parts(state))
