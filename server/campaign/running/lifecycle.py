"""One run of an open campaign: from wherever it stands to its end, or to the point where it has to wait."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property

from common.errors import ConfigError, FedForgetError, OutputError, UnavailableError, WireError
from common.evidence.outcomes.grounds import PUBLISHED, Descent
from common.learning.model.checkpoint import ModelCard
from server.campaign.campaign import (
    Campaign,
    NobodyRetainedError,
    NobodyWaitsError,
    UndecidableError,
    collect,
    run_campaign,
)
from server.campaign.campaign_rows import GivenUpError
from server.campaign.journal import DatabaseJournal
from server.campaign.running.candidate_verdict import candidate_verdict
from server.campaign.running.dates import batch_until, due_soon
from server.campaign.running.exact import EXACT, Descents, NotExactError, Origin, origin_of
from server.campaign.running.giving_up import GivingUp
from server.campaign.running.publication import Overruled, Proposed, Publisher
from server.campaign.running.set_aside import unlearned
from server.campaign.running.single_writers import SingleWriterError, least_retention
from server.campaign.running.training import Trainer, log_round
from server.campaign.running.tries import put_off
from server.campaign.store import BATCHED, CANDIDATE, LADDER, OVERRULED, CampaignStore
from server.campaign.verdict.judging import (
    Verdict,
)
from server.campaign.verdict.ladder import Batched, Ladder, Qualifier, Unqualified, undecidable
from server.database import CampaignRow
from server.registry.registry import Registry
from server.rounds.checks.update_gate import AggregateRefusedError, check_candidate
from server.rounds.exchanges.signer import Scope
from server.rounds.federation import Federation
from server.rounds.journal import step
from server.rounds.states import CampaignState
from server.rounds.unlearning.base import Collected, NotUnlearnedError
from server.rounds.unlearning.methods import SIMULATED
from server.settings import Terms

log = logging.getLogger("fedforget.server")

WITHOUT_THEM = "all that had learned from patients is trained again, from the first initial weights"


@dataclass(frozen=True)
class CampaignRunner:
    """Carries a campaign on; what it decides and makes goes through the store, the journal and the registry."""

    federation: Federation
    store: CampaignStore
    registry: Registry
    card: ModelCard
    run: int | None = None
    """Flower's run id, for the record."""
    qualifier: Qualifier = field(default_factory=Unqualified)

    @cached_property
    def publisher(self) -> Publisher:
        """Of the same federation."""
        return Publisher(self.federation, self.store, self.registry, self.card, self.run)

    @cached_property
    def trainer(self) -> Trainer:
        """Of the same federation."""
        return Trainer(self.federation, self.store, self.registry, self.card, self.publisher)

    @cached_property
    def giving_up(self) -> GivingUp:
        """Of the same federation."""
        return GivingUp(self.federation, self.store)

    def carry_on(self, number: int, attempt: int) -> CampaignState:
        """Do what is left of campaign `number`; the state it is in afterwards.

        A site or a disk that is not there leaves it waiting, with the reason and the time of the next try, until it had
        as many tries as the policy allows. What no retry can fix ends it as `failed`.

        Raises:
            GivenUpError: another run has taken the campaign over, or it was cancelled.
        """
        row = self.store.get(number)
        journal = self.store.journal(number, attempt)
        terms = Terms.model_validate(row.settings)
        self.federation.scope = Scope(number)

        try:
            # Hospitals that missed the last version close the revocations that it answers, before they are asked who
            # waits.
            self.publisher.catch_up(number)
            self._work(row, journal, terms)
            self.store.clean(number)
        except GivenUpError:
            # Another run owns the campaign: this one writes nothing and deletes nothing.
            raise
        except AggregateRefusedError as error:
            # No retry gives another aggregate, as the seeds depend on the campaign alone.
            journal.enter(CampaignState.REJECTED, str(error))
            self.store.clean(number)
        except (UnavailableError, OutputError, WireError) as error:
            is_given_up = put_off(self.store, number, attempt, str(error), terms.policy)
            log.warning("campaign %d %s: %s", number, "is given up" if is_given_up else "waits", error)
        except FedForgetError as error:
            journal.enter(CampaignState.FAILED, str(error))
            self.store.clean(number)

        state = CampaignState(self.store.get(number).state)
        log.info("campaign %d is %s", number, state)

        return state

    def _work(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        overruling = journal.get(OVERRULED, Overruled)
        candidate = journal.get(CANDIDATE, Proposed)

        if overruling is not None and candidate is not None:
            proposal, state = candidate
            reason = f"published by a person: {overruling[0].reason}; {proposal.reason}"
            self.publisher.publish(row.number, state, journal, proposal.model_copy(update={"reason": reason}))
        elif row.kind in {"training", "retraining"}:
            self._learn(row, journal, terms)
        else:
            self._forget(row, journal, terms)

    def _learn(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        """Train a new model. Where revocations wait it forgets them, and is a retraining in every respect."""
        collection, _ = step(journal, "collect", Collected, lambda: (collect(self.federation), None))
        active = self.registry.active()

        if row.kind == "training" and not collection.forgetting:
            reason = "a first model" if active is None else f"a new model in place of {active.name}"
            self.trainer.train(row.number, journal, terms, "trained", reason)
            return

        self.store.retrains(row.number, journal.attempt, active.name if active else None)
        sites = ", ".join(collection.forgetting) or ", ".join(row.sites or ())
        self.trainer.train(row.number, journal, terms, "retrained", f"revocations wait at {sites}")

    def _forget(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        number = row.number
        parent = row.parent
        if parent is None:
            raise ConfigError("there is no model yet", remedy="run `fedforget-server train` first")
        if self._learns_again(row, parent, journal, terms):
            return
        campaign = None
        # Repeated without the hospitals that were given up, until there is a candidate or nobody is left.
        while campaign is None:
            try:
                campaign = self._candidate(row, parent, journal, terms)
            except (NobodyRetainedError, SingleWriterError) as error:
                self._retrain(row, journal, terms, str(error))
                return
            except UndecidableError as error:
                verdict = undecidable(error.descents)
                journal.put(LADDER, verdict)
                self._undecided(row, parent, verdict, journal, terms)
                return
            except UnavailableError as error:
                # The date by which a patient must be answered (GDPR Art. 12(3)) waits for no hospital: retraining needs
                # none to unlearn.
                if due_soon(self.store, row, terms):
                    journal.note("escalated", f"{error}; a due date is near")
                    if isinstance(error, NotUnlearnedError):
                        self.giving_up.for_retraining(number, error, terms)
                    self.trainer.train(number, journal, terms, "retrained", f"{error}, and the due date is near")
                    return

                if not isinstance(error, NotUnlearnedError):
                    raise
                if not self.giving_up.goes_on_without(number, error, journal, terms):
                    raise

        unlearned(self.store, campaign.collected.forgetting)
        # Too far from its parent, a candidate is none, whatever its figures say.
        check_candidate(campaign.state, self.registry.load(parent), terms.gate, len(campaign.collected.forgetting))
        verdict = candidate_verdict(self.store, self.qualifier, parent, campaign, journal, terms)
        provenance = self.publisher.provenance(
            terms, campaign.rounds, campaign.figures, sorted(campaign.collected.retain_studies), verdict
        )
        proposal = Proposed(how="unlearned", parent=parent, reason=verdict.text, provenance=provenance)
        if verdict.publishes:
            self.publisher.publish(number, campaign.state, journal, proposal)
            return

        if verdict.outcome in PUBLISHED and terms.policy.undecided != "retrain" and terms.policy.may_overrule:
            # Other sites' vetoes alone stop it; what is still remembered nobody may publish.
            journal.put(CANDIDATE, proposal, campaign.state)

        self._undecided(row, parent, verdict, journal, terms)

    def _learns_again(self, row: CampaignRow, parent: str, journal: DatabaseJournal, terms: Terms) -> bool:
        """Whether the campaign trains instead of unlearning, which is done then: by its method, or as it began to."""
        number = row.number
        method = terms.experiment.unlearn.method
        if method in SIMULATED:
            raise ConfigError(f"{method} runs in simulations only", where="unlearn.method", remedy="use another method")

        # What the campaign began is what it goes on with, whatever the settings would choose now.
        origin = journal.get(EXACT, Origin)
        reason = journal.entered(CampaignState.RETRAINING)
        if origin is not None:
            self.trainer.train(number, journal, terms, "exact", WITHOUT_THEM, origin[0])
        elif reason is not None:
            self.trainer.train(number, journal, terms, "retrained", reason)
        elif method == "retrain":
            self._retrain(row, journal, terms, "the method is retraining")
        elif method == EXACT:
            self._exactly(row, parent, journal, terms)
        else:
            return False

        return True

    def _exactly(self, row: CampaignRow, parent: str, journal: DatabaseJournal, terms: Terms) -> None:
        """Train all that saw patients again; where that would not be exact, the whole model from new weights."""
        collection, _ = step(journal, "collect", Collected, lambda: (collect(self.federation), None))
        if not collection.forgetting:
            raise NobodyWaitsError("no revocation waits any more at the sites that answer")

        try:
            origin = origin_of(parent, self.registry, self.store, self.card, terms)
        except NotExactError as error:
            reason = f"exact forgetting is not possible: {error}"
            journal.put("descents", Descents(steps=(Descent("exact", str(error)),)))
            self._retrain(row, journal, terms, reason)
            return

        journal.put(EXACT, origin)
        self.trainer.train(row.number, journal, terms, "exact", WITHOUT_THEM, origin)

    def _candidate(self, row: CampaignRow, parent: str, journal: DatabaseJournal, terms: Terms) -> Campaign:
        return run_campaign(
            self.federation,
            self.registry.load(parent),
            terms.experiment,
            journal=journal,
            folder=self.store.folder(row.number),
            on_round=log_round,
            quorum=terms.policy.quorum,
            chosen=row.sites,
            out_of_reach=lambda collected: Ladder(terms.policy, terms.experiment.decision).out_of_reach(
                collected, lambda: self.qualifier.uncovered(parent, collected, terms)
            ),
            least_retention=lambda collected: least_retention(collected, journal, terms),
        )

    def _undecided(
        self, row: CampaignRow, parent: str, verdict: Verdict, journal: DatabaseJournal, terms: Terms
    ) -> None:
        """What the policy that was chosen beforehand says."""
        policy = terms.policy.undecided
        reason = f"{verdict.outcome}, policy {policy}: {verdict.text}"
        is_rejected = verdict.outcome == "rejected" or bool(verdict.vetoes)
        if policy == "retrain":
            self._retrain(row, journal, terms, reason, rejected=is_rejected)
            return

        if policy == "withdraw" and self.registry.get(parent).state != "withdrawn":
            self.registry.withdraw(parent, f"campaign {row.number}: {verdict.outcome}")
        journal.enter(CampaignState.REJECTED if is_rejected else CampaignState.INCONCLUSIVE, reason)

    def _retrain(
        self, row: CampaignRow, journal: DatabaseJournal, terms: Terms, reason: str, *, rejected: bool = False
    ) -> None:
        """Train anew for these patients: now, or with all who wait when the first of them is due."""
        until = batch_until(self.store, row, terms)
        if until is None:
            self.trainer.train(row.number, journal, terms, "retrained", reason)
            return

        journal.put(BATCHED, Batched(until=until))
        # A planned campaign has no such end; one that has collected does.
        journal.enter(CampaignState.COLLECTING)
        final_state = CampaignState.REJECTED if rejected else CampaignState.INCONCLUSIVE
        journal.enter(final_state, f"{reason}; these patients wait for the retraining of {until:%Y-%m-%d %H:%M} UTC")
