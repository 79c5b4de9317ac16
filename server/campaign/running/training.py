"""Training within a campaign: a model from new weights, or as at an origin, audited, judged and published."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from common.errors import UnavailableError
from common.evidence.outcomes.grounds import Descent
from common.learning.config import DecisionConfig
from common.learning.device import derive_seed
from common.learning.evaluation.figures import FederationFigures
from common.learning.model.checkpoint import ModelCard
from server.campaign.campaign import audit
from server.campaign.curve import STEP, Curve, CurveFile
from server.campaign.journal import DatabaseJournal
from server.campaign.running.dates import due_soon
from server.campaign.running.exact import Descents, Origin, training_seed
from server.campaign.running.publication import How, Proposed, Publisher
from server.campaign.store import CANDIDATE, LADDER, CampaignStore
from server.campaign.verdict.judging import Verdict, decide_exact, judge_training, odd_audit, trained_parts
from server.registry.registry import Registry
from server.rounds.checks.update_gate import AggregateRefusedError
from server.rounds.federation import Federation
from server.rounds.fold_training import Folded, train_folds
from server.rounds.journal import step
from server.rounds.states import CampaignState
from server.rounds.training import Round, Trained, train
from server.rounds.unlearning.base import Collected
from server.settings import Terms

log = logging.getLogger("fedforget.server")


@dataclass(frozen=True)
class Trainer:
    """Trains on all patients who have not revoked."""

    federation: Federation
    store: CampaignStore
    registry: Registry
    card: ModelCard
    publisher: Publisher

    def train(
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
        # Sites must score the version in use before training replaces it.
        before = self._figures_before(number, journal, terms)

        seed = training_seed(config, how, number) if origin is None else origin.seed
        curve = CurveFile(self.store.folder(number), self.store.clock)

        def on_round(record: Round) -> None:
            log_round(record)
            curve.note(record)

        training = train(
            self.federation,
            self.card.build(seed).state_dict(),
            config.train if origin is None else origin.experiment.train,
            self.card,
            seed=seed,
            folder=self.store.folder(number) / "train",
            on_round=on_round,
            quorum=terms.policy.quorum,
        )
        round_kept = next((record.round for record in training.rounds if record.kept), None)
        step(journal, STEP, Curve, lambda: (curve.finished(round_kept), None))

        figures, _ = step(
            journal,
            f"audit:{how}",
            FederationFigures,
            lambda: (audit(self.federation, training.state, config.decision, config.seed, _collected(journal)), None),
        )
        verdict, _ = step(
            journal,
            f"verdict:{how}",
            Verdict,
            lambda: (self._judge(before, figures, config.decision, journal, exact=origin is not None), None),
        )

        # A site that missed some rounds is in the model by the others.
        averaged_rounds = [r for r in training.rounds if r.train_loss is not None]
        sites = sorted(name for name in training.sites if any(name not in r.missing for r in averaged_rounds))
        forgets = None if how == "trained" else verdict
        provenance = self.publisher.provenance(terms, training.rounds, figures, sites, forgets)
        proposal = Proposed(how=how, parent=None, reason=reason, provenance=provenance)

        if not verdict.publishes:
            if terms.policy.may_overrule:
                journal.put(CANDIDATE, proposal, training.state)
            journal.enter(CampaignState.REJECTED, f"{reason}; the {how} model is not published: {verdict.text}")
            return

        try:
            self._fold(number, training, journal, terms, how)
        except (UnavailableError, AggregateRefusedError) as error:
            if how != "retrained":
                raise
            # Patients wait for this version: it is published without fold models.
            journal.note("folds", f"no fold models: {error}")

        self.publisher.publish(number, training.state, journal, proposal)

    def _fold(self, number: int, trained: Trained, journal: DatabaseJournal, terms: Terms, how: How) -> None:
        """Train the fold models of the new lineage; a model whose patients are nearly due does not wait for them."""
        if not terms.experiment.folds.trainings or how == "exact":
            return

        row = self.store.get(number)
        if how == "retrained" and due_soon(self.store, row, terms, waits=frozenset(CampaignState)):
            journal.note("folds", "no fold models are trained: a due date is near")
            return

        def work() -> tuple[Folded, None]:
            folds = train_folds(
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
            return folds, None

        folds, _ = step(journal, "folds", Folded, work)
        for site in folds.without:
            journal.note("folds", "no scores by all fold models: revocations there have drawn targets", site)

    def _judge(
        self,
        before: FederationFigures | None,
        figures: FederationFigures,
        config: DecisionConfig,
        journal: DatabaseJournal,
        *,
        exact: bool,
    ) -> Verdict:
        if not exact:
            return judge_training(before, figures, config, _descents(journal))

        if before is not None and (odd := odd_audit(before, figures, config)):
            journal.note("audit", f"{odd}; it decides nothing, as the model never saw the patients: have a look why")

        decision = decide_exact(before, figures, config, trained_parts(self.card.build().state_dict()))
        return Verdict(outcome=decision.outcome, reasons=decision.reasons, vetoes=(), grounds=decision.grounds)

    def _figures_before(self, number: int, journal: DatabaseJournal, terms: Terms) -> FederationFigures | None:
        """Of the version in use, measured now; None for a first model, or where that version is of another kind."""
        active = self.registry.active()
        if active is None or active.campaign == number:
            earlier = journal.get("before", FederationFigures)
            return earlier[0] if earlier else None

        if self.registry.card(active.name) != self.card:
            journal.note("incomparable", f"{active.name} is of another model: its figures cannot be compared")
            return None

        config = terms.experiment
        state: Mapping[str, Tensor] = self.registry.load(active.name)
        figures, _ = step(
            journal,
            "before",
            FederationFigures,
            lambda: (audit(self.federation, state, config.decision, config.seed, _collected(journal)), None),
        )
        return figures


def _descents(journal: DatabaseJournal) -> tuple[Descent, ...]:
    """Why the rungs above retraining did not carry the campaign."""
    statement = journal.get("descents", Descents)
    if statement is not None:
        return statement[0].steps

    for name in ("verdict", LADDER):
        entry = journal.get(name, Verdict)
        if entry is not None and entry[0].grounds is not None:
            own = (Descent("own", entry[0].text),)
            return entry[0].grounds.descents or own

    return ()


def _collected(journal: DatabaseJournal) -> Collected | None:
    collection = journal.get("collect", Collected)
    return None if collection is None else collection[0]


def log_round(record: Round) -> None:
    """A line for each round."""
    loss = "" if record.validation_loss is None else f", validation loss {record.validation_loss:.3f}"
    log.info("%s round %d%s", record.phase, record.round, loss)
