"""One run of an open campaign: from wherever it stands to its end, or to the point where it has to wait."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial

from torch import Tensor

from common.errors import ConfigError, FedForgetError, OutputError, RefusedError, UnavailableError, WireError
from common.evidence.outcomes.grounds import PUBLISHED, Descent
from common.learning.config import DecisionConfig
from common.learning.device import derive_seed
from common.learning.evaluation.figures import FederationFigures
from common.learning.model.checkpoint import ModelCard
from common.platform.sql import transaction
from server.campaign.campaign import (
    Aside,
    Campaign,
    NobodyRetainedError,
    NobodyWaitsError,
    UndecidableError,
    audit,
    collect,
    run_campaign,
)
from server.campaign.running.exact import EXACT, Descents, NotExactError, Origin, origin_of, training_seed
from server.campaign.running.publication import How, Overruled, Proposed, Publisher
from server.campaign.running.set_aside import note_tries, set_aside, suspended, tries_of, unlearned
from server.campaign.running.tries import failed_before, put_off
from server.campaign.store import BATCHED, CANDIDATE, LADDER, OVERRULED, CampaignStore, DatabaseJournal, GivenUpError
from server.campaign.verdict.judging import (
    Verdict,
    decide_exact,
    judge_candidate,
    judge_training,
    odd_audit,
    trained_parts,
)
from server.campaign.verdict.ladder import Batched, Ladder, Qualifier, Unqualified, undecidable
from server.campaign.waiting import earliest_due
from server.database import CampaignRow
from server.registry.registry import Registry
from server.rounds.checks.update_gate import AggregateRefusedError, check_candidate
from server.rounds.exchanges.signer import Scope
from server.rounds.federation import Federation
from server.rounds.fold_training import Folded, train_folds
from server.rounds.journal import step
from server.rounds.states import CampaignState
from server.rounds.training import Round, Trained, train
from server.rounds.unlearning.base import Collected, NotUnlearnedError, Stage, single_writer
from server.rounds.unlearning.methods import SIMULATED
from server.settings import Terms

log = logging.getLogger("fedforget.server")

WITHOUT_THEM = "all that had learned from patients is trained again, from the first initial weights"


class SingleWriterError(RefusedError):
    """One hospital alone would write the model, and the policy asks for retraining then."""


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
            self.publisher.catch_up(number)
            self._work(row, journal, terms)
            self.store.clean(number)
        except GivenUpError:
            raise
        except AggregateRefusedError as error:
            journal.enter(CampaignState.REJECTED, str(error))
            self.store.clean(number)
        except (UnavailableError, OutputError, WireError) as error:
            ended = put_off(self.store, number, attempt, str(error), terms.policy)
            log.warning("campaign %d %s: %s", number, "is given up" if ended else "waits", error)
        except FedForgetError as error:
            journal.enter(CampaignState.FAILED, str(error))
            self.store.clean(number)

        state = CampaignState(self.store.get(number).state)
        log.info("campaign %d is %s", number, state)

        return state

    def _work(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        overruled = journal.get(OVERRULED, Overruled)
        candidate = journal.get(CANDIDATE, Proposed)

        if overruled is not None and candidate is not None:
            proposed, state = candidate
            reason = f"published by a person: {overruled[0].reason}; {proposed.reason}"
            self.publisher.publish(row.number, state, journal, proposed.model_copy(update={"reason": reason}))
        elif row.kind in {"training", "retraining"}:
            self._learn(row, journal, terms)
        else:
            self._forget(row, journal, terms)

    def _learn(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        """Train a new model. Where revocations wait it forgets them, and is a retraining in every respect."""
        collected, _ = step(journal, "collect", Collected, lambda: (collect(self.federation), None))
        active = self.registry.active()

        if row.kind == "training" and not collected.forgetting:
            reason = "a first model" if active is None else f"a new model in place of {active.name}"
            self._train(row.number, journal, terms, "trained", reason)
            return

        self.store.retrains(row.number, journal.attempt, active.name if active else None)
        sites = ", ".join(collected.forgetting) or ", ".join(row.sites or ())
        self._train(row.number, journal, terms, "retrained", f"revocations wait at {sites}")

    def _forget(self, row: CampaignRow, journal: DatabaseJournal, terms: Terms) -> None:
        number = row.number
        parent = row.parent
        if parent is None:
            raise ConfigError("there is no model to forget from", remedy="run `fedforget-server train` first")
        if self._learns_again(row, parent, journal, terms):
            return
        done = None
        while done is None:
            try:
                done = self._candidate(row, parent, journal, terms)
            except (NobodyRetainedError, SingleWriterError) as error:
                self._retrain(row, journal, terms, str(error))
                return
            except UndecidableError as error:
                verdict = undecidable(error.descents)
                journal.put(LADDER, verdict)
                self._undecided(row, parent, verdict, journal, terms)
                return
            except UnavailableError as error:
                if self._due_soon(row, terms):
                    self._retrain_without(number, error, journal, terms)
                    return

                if not isinstance(error, NotUnlearnedError) or not self._goes_on_without(number, error, journal, terms):
                    raise

        unlearned(self.store, done.collected.forgetting)
        check_candidate(done.state, self.registry.load(parent), terms.gate, len(done.collected.forgetting))
        verdict = self._judge(parent, done, journal, terms)
        provenance = self.publisher.provenance(
            terms, done.rounds, done.figures, sorted(done.collected.retain_studies), verdict
        )
        proposed = Proposed(how="unlearned", parent=parent, reason=verdict.text, provenance=provenance)
        if verdict.publishes:
            self.publisher.publish(number, done.state, journal, proposed)
            return

        if verdict.outcome in PUBLISHED and terms.policy.undecided != "retrain" and terms.policy.may_overrule:
            # Other sites' vetoes alone stop it; what is still remembered nobody may publish.
            journal.put(CANDIDATE, proposed, done.state)

        self._undecided(row, parent, verdict, journal, terms)

    def _learns_again(self, row: CampaignRow, parent: str, journal: DatabaseJournal, terms: Terms) -> bool:
        """Whether the campaign trains instead of unlearning, which is done then: by its method, or as it began to."""
        number = row.number
        method = terms.experiment.unlearn.method
        if method in SIMULATED:
            raise ConfigError(f"{method} runs in simulations only", where="unlearn.method", remedy="use another method")

        origin = journal.get(EXACT, Origin)
        reason = journal.entered(CampaignState.RETRAINING)
        if origin is not None:
            self._train(number, journal, terms, "exact", WITHOUT_THEM, origin[0])
        elif reason is not None:
            self._train(number, journal, terms, "retrained", reason)
        elif method == "retrain":
            self._retrain(row, journal, terms, "the method is retraining")
        elif method == EXACT:
            self._exactly(row, parent, journal, terms)
        else:
            return False

        return True

    def _exactly(self, row: CampaignRow, parent: str, journal: DatabaseJournal, terms: Terms) -> None:
        """Train all that saw patients again; where that would not be exact, the whole model from new weights."""
        collected, _ = step(journal, "collect", Collected, lambda: (collect(self.federation), None))
        if not collected.forgetting:
            raise NobodyWaitsError("no revocation waits any more at the sites that answer")

        try:
            origin = origin_of(parent, self.registry, self.store, self.card, terms)
        except NotExactError as error:
            reason = f"exact forgetting is not possible: {error}"
            journal.put("descents", Descents(steps=(Descent("exact", str(error)),)))
            self._retrain(row, journal, terms, reason)
            return

        journal.put(EXACT, origin)
        self._train(row.number, journal, terms, "exact", WITHOUT_THEM, origin)

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
            least_retention=lambda collected: _least_retention(collected, journal, terms),
        )

    def _due_soon(
        self,
        row: CampaignRow,
        terms: Terms,
        waits: frozenset[CampaignState] = frozenset({CampaignState.COLLECTING, CampaignState.UNLEARNING}),
    ) -> bool:
        """Whether somebody's date is near while the campaign still waits for hospitals to unlearn.

        All who wait count, those too who came after the plan. Only states in `waits` count.
        """
        state = CampaignState(self.store.get(row.number).state)
        if state not in waits:
            return False
        with transaction(self.store.engine) as session:
            due = [moment for moment in (row.due, earliest_due(session, terms.policy)) if moment is not None]
        return bool(due) and self.store.clock() >= min(due) - timedelta(hours=terms.policy.escalate_hours)

    def _retrain_without(self, number: int, error: UnavailableError, journal: DatabaseJournal, terms: Terms) -> None:
        journal.note("escalated", f"{error}; a due date is near")
        if isinstance(error, NotUnlearnedError):
            note_tries(self.store, number, error.sites, self.federation.refused)
            self._set_aside(number, error.sites, str(error), terms)
        self._train(number, journal, terms, "retrained", f"{error}, and the due date is near")

    def _goes_on_without(self, number: int, error: NotUnlearnedError, journal: DatabaseJournal, terms: Terms) -> bool:
        """Set aside those who did not unlearn in enough tries; whether there are some, and others are left.

        Raises:
            NobodyWaitsError: nobody is left.
        """
        note_tries(self.store, number, error.sites, self.federation.refused)
        tries = tries_of(self.store, number)
        holding = self.federation.holding
        given_up = {name for name in error.sites if tries[name] >= terms.policy.unlearn_tries or holding.over(name)}
        # Nobody in particular: no site that answers has a revocation.
        nobody = not error.sites and failed_before(self.store, number) + 1 >= terms.policy.unlearn_tries
        if not given_up and not nobody:
            return False
        self._set_aside(number, given_up, str(error), terms)
        before = journal.get("aside", Aside)
        aside = {*given_up, *(before[0].sites if before else ())}
        journal.put("aside", Aside(sites=tuple(sorted(aside))))
        collected = journal.get("collect", Collected)
        if collected is None or not set(collected[0].forgetting) - aside:
            count = max((tries[name] for name in given_up), default=terms.policy.unlearn_tries)
            raise NobodyWaitsError(f"given up after {count} tries: {error}")
        journal.note("dropped", f"the campaign goes on without {', '.join(sorted(given_up))}: {error}")

        return True

    def _set_aside(self, number: int, sites: Collection[str], why: str, terms: Terms) -> None:
        shut_out = set_aside(self.store, number, sites, terms.policy, why)
        nodes = self.federation.nodes
        self.federation.nodes = {name: node for name, node in nodes.items() if name not in shut_out}

    def _judge(self, parent: str, done: Campaign, journal: DatabaseJournal, terms: Terms) -> Verdict:
        def work() -> tuple[Verdict, None]:
            aside = journal.get("aside", Aside)
            out = suspended(self.store) | set(aside[0].sites if aside else ())
            # Whoever was shut out meanwhile can send no figures of the candidate: that is no veto.
            heard = {site: figures for site, figures in done.before.test_by_site.items() if site not in out}
            before = done.before.model_copy(update={"test_by_site": heard})
            # Nor does one that was set aside, and still answers, weigh on the others' result.
            tested = {site: figures for site, figures in done.figures.test_by_site.items() if site not in out}
            after = done.figures.model_copy(update={"test_by_site": tested})

            own = judge_candidate(before, after, done.collected, terms.experiment.decision)
            ladder = Ladder(terms.policy, terms.experiment.decision)
            qualified = partial(self.qualifier.grounds, parent, done, terms, journal)

            return ladder.climb(own, qualified, self.store.clock()), None

        return step(journal, "verdict", Verdict, work)[0]

    def _undecided(
        self, row: CampaignRow, parent: str, verdict: Verdict, journal: DatabaseJournal, terms: Terms
    ) -> None:
        """What the policy that was chosen beforehand says."""
        policy = terms.policy.undecided
        reason = f"{verdict.outcome}, policy {policy}: {verdict.text}"
        rejected = verdict.outcome == "rejected" or bool(verdict.vetoes)
        if policy == "retrain":
            self._retrain(row, journal, terms, reason, rejected=rejected)
            return

        if policy == "withdraw" and self.registry.get(parent).state != "withdrawn":
            self.registry.withdraw(parent, f"campaign {row.number}: {verdict.outcome}")
        journal.enter(CampaignState.REJECTED if rejected else CampaignState.INCONCLUSIVE, reason)

    def _retrain(
        self, row: CampaignRow, journal: DatabaseJournal, terms: Terms, reason: str, *, rejected: bool = False
    ) -> None:
        """Train anew for these patients: now, or with all who wait when the first of them is due."""
        until = self._batch_until(row, terms)
        if until is None:
            self._train(row.number, journal, terms, "retrained", reason)
            return

        journal.put(BATCHED, Batched(until=until))
        journal.enter(CampaignState.COLLECTING)
        ended = CampaignState.REJECTED if rejected else CampaignState.INCONCLUSIVE
        journal.enter(ended, f"{reason}; these patients wait for the retraining of {until:%Y-%m-%d %H:%M} UTC")

    def _batch_until(self, row: CampaignRow, terms: Terms) -> datetime | None:
        """When the retraining begins that further revocations can still join; None where it must begin now."""
        if terms.policy.retrain_batch == "each":
            return None
        with transaction(self.store.engine) as session:
            due = [moment for moment in (row.due, earliest_due(session, terms.policy)) if moment is not None]
        until = min(due, default=None)
        if until is None:
            return None
        until -= timedelta(hours=terms.policy.lead_hours)

        return until if until > self.store.clock() else None

    def _train(
        self,
        number: int,
        journal: DatabaseJournal,
        terms: Terms,
        how: How,
        reason: str,
        origin: Origin | None = None,
    ) -> None:
        """Train on all who have not revoked, audit, judge, publish: from new weights, or as at the `origin`."""
        journal.enter(CampaignState.RETRAINING, reason)
        config = terms.experiment
        before = self._figures_before(number, journal, terms)
        seed = training_seed(config, how, number) if origin is None else origin.seed
        done = train(
            self.federation,
            self.card.build(seed).state_dict(),
            config.train if origin is None else origin.experiment.train,
            self.card,
            seed=seed,
            folder=self.store.folder(number) / "train",
            on_round=log_round,
            quorum=terms.policy.quorum,
        )
        figures, _ = step(
            journal,
            f"audit:{how}",
            FederationFigures,
            lambda: (audit(self.federation, done.state, config.decision, config.seed, self._collected(journal)), None),
        )
        verdict, _ = step(
            journal,
            f"verdict:{how}",
            Verdict,
            lambda: (self._judge_trained(before, figures, config.decision, journal, exact=origin is not None), None),
        )
        # A site that missed some rounds is in the model by the others.
        averaged = [r for r in done.rounds if r.train_loss is not None]
        sites = sorted(name for name in done.sites if any(name not in r.missing for r in averaged))
        forgets = None if how == "trained" else verdict
        provenance = self.publisher.provenance(terms, done.rounds, figures, sites, forgets)
        proposed = Proposed(how=how, parent=None, reason=reason, provenance=provenance)

        if not verdict.publishes:
            if terms.policy.may_overrule:
                journal.put(CANDIDATE, proposed, done.state)
            journal.enter(CampaignState.REJECTED, f"{reason}; the {how} model is not published: {verdict.text}")
            return

        try:
            self._fold(number, done, journal, terms, how)
        except (UnavailableError, AggregateRefusedError) as error:
            if how != "retrained":
                raise
            # Patients wait for this version: it is published without fold models.
            journal.note("folds", f"no fold models: {error}")

        self.publisher.publish(number, done.state, journal, proposed)

    def _fold(self, number: int, trained: Trained, journal: DatabaseJournal, terms: Terms, how: How) -> None:
        """Train the fold models of the new lineage; a model whose patients are nearly due does not wait for them."""
        if not terms.experiment.folds.trainings or how == "exact":
            return
        if how == "retrained" and self._due_soon(self.store.get(number), terms, waits=frozenset(CampaignState)):
            journal.note("folds", "no fold models are trained: a due date is near")
            return

        def work() -> tuple[Folded, None]:
            folded = train_folds(
                self.federation,
                terms.experiment.folds,
                terms.experiment.train,
                self.card,
                lineage=f"campaign-{number}",
                rounds=max(1, next((r.round for r in trained.rounds if r.kept), 1)),
                seed=derive_seed(terms.experiment.seed, "folds", number) % 2**31,
                folder=self.store.folder(number) / "folds",
                on_round=lambda finished, total: log.info("fold models: round %d of %d", finished, total),
                quorum=terms.policy.quorum,
            )
            return folded, None

        folded, _ = step(journal, "folds", Folded, work)
        for site in folded.without:
            journal.note("folds", "no scores by all fold models: revocations there have drawn targets", site)

    def _descents(self, journal: DatabaseJournal) -> tuple[Descent, ...]:
        """Why the rungs above retraining did not carry the campaign."""
        stated = journal.get("descents", Descents)
        if stated is not None:
            return stated[0].steps
        for name in ("verdict", LADDER):
            found = journal.get(name, Verdict)
            if found is not None and found[0].grounds is not None:
                own = (Descent("own", found[0].text),)
                return found[0].grounds.descents or own
        return ()

    def _judge_trained(
        self,
        before: FederationFigures | None,
        figures: FederationFigures,
        config: DecisionConfig,
        journal: DatabaseJournal,
        *,
        exact: bool,
    ) -> Verdict:
        if not exact:
            return judge_training(before, figures, config, self._descents(journal))

        if before is not None and (odd := odd_audit(before, figures, config)):
            journal.note("audit", f"{odd}; it decides nothing, as the model never saw the patients: have a look why")
        decision = decide_exact(before, figures, config, trained_parts(self.card.build().state_dict()))
        return Verdict(outcome=decision.outcome, reasons=decision.reasons, vetoes=(), grounds=decision.grounds)

    def _collected(self, journal: DatabaseJournal) -> Collected | None:
        collected = journal.get("collect", Collected)
        return None if collected is None else collected[0]

    def _figures_before(self, number: int, journal: DatabaseJournal, terms: Terms) -> FederationFigures | None:
        """Of the version in use, measured now; None for a first model, or where that version is of another kind."""
        active = self.registry.active()
        if active is None or active.campaign == number:
            known = journal.get("before", FederationFigures)
            return known[0] if known else None

        if self.registry.card(active.name) != self.card:
            journal.note("incomparable", f"{active.name} is of another model: its figures cannot be compared")
            return None

        config = terms.experiment
        state: Mapping[str, Tensor] = self.registry.load(active.name)

        return step(
            journal,
            "before",
            FederationFigures,
            lambda: (audit(self.federation, state, config.decision, config.seed, self._collected(journal)), None),
        )[0]


def _least_retention(collected: Collected, journal: DatabaseJournal, terms: Terms) -> int:
    """Fewest retention rounds of a candidate, as the policy for a single writer says.

    Raises:
        SingleWriterError: the policy does not let one hospital write the model.
    """
    writer = single_writer(terms.experiment.campaign.aggregation, collected.forgetting)
    if writer is None or terms.policy.single_writer == "accept":
        return 0
    if terms.policy.single_writer == "retrain":
        raise SingleWriterError(f"{writer} alone would write the model, policy.single_writer is retrain")
    rounds = terms.policy.single_writer_rounds
    if terms.experiment.campaign.retention_rounds < rounds and journal.get("select", Stage) is None:
        journal.note("retention", f"{writer} alone writes the unlearned model: {rounds} retention rounds at least")

    return rounds


def log_round(record: Round) -> None:
    """A line for each round."""
    loss = "" if record.validation_loss is None else f", validation loss {record.validation_loss:.3f}"
    log.info("%s round %d%s", record.phase, record.round, loss)
