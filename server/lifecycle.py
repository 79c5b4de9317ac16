"""One run of an open campaign: from wherever it stands to its end, or to the point where it has to wait."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from flwr.app import RecordDict
from pydantic import BaseModel
from torch import Tensor

from common.device import derive_seed
from common.errors import ConfigError, InputError, OutputError, UnavailableError
from common.evaluation.decision import decide
from common.evaluation.figures import FederationFigures
from common.installation import own_version
from common.model.checkpoint import ModelCard
from common.wire import ADOPT, AdoptReply, AdoptRequest
from server.aggregation import State
from server.campaign import Campaign, NobodyRetainedError, audit, run_campaign
from server.campaign_store import CampaignStore, DatabaseJournal
from server.federation import Federation
from server.journal import step
from server.manifest import Provenance
from server.registry import Registry, Version
from server.settings import Terms
from server.signer import Scope
from server.states import CampaignState
from server.training import Round, train
from server.unlearning.methods import SIMULATED
from server.update_gate import veto
from server.version_figures import metrics_of

log = logging.getLogger("fedforget.server")

How = Literal["trained", "unlearned", "retrained"]


class Verdict(BaseModel):
    """The evaluator's outcome and the vetoes of other sites."""

    outcome: Literal["accepted", "rejected", "inconclusive"]
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...]

    @property
    def text(self) -> str:
        """In one line."""
        return "; ".join((*(f"veto: {v}" for v in self.vetoes), *self.reasons))


class Published(BaseModel):
    """The version that a campaign ended in, and how it forgets."""

    version: str
    how: How


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries a campaign on; what it decides and makes goes through the store, the journal and the registry."""

    federation: Federation
    store: CampaignStore
    registry: Registry
    card: ModelCard
    run: int | None = None
    """Flower's run id, for the record."""

    def carry_on(self, number: int, attempt: int) -> CampaignState:
        """Do what is left of campaign `number`; the state it is in afterwards.

        A site or a disk that is not there leaves it waiting, with the reason and the time of the next try. What no
        retry can mend ends it as `failed`.

        Raises:
            GivenUpError: another run has taken the campaign over, or it was cancelled.
        """
        row = self.store.get(number)
        journal = self.store.journal(number, attempt)
        terms = Terms.model_validate(row.settings)
        self.federation.scope = Scope(number)
        try:
            self._catch_up(number)
            if row.kind == "training":
                self._train(number, journal, terms, "trained", "a first model")
            else:
                self._forget(number, row.parent, row.due, journal, terms)
            self.store.clean(number)
        except (UnavailableError, OutputError) as error:
            until = self.store.clock() + timedelta(minutes=terms.policy.retry_minutes)
            self.store.postpone(number, attempt, str(error), until)
            log.warning("campaign %d waits: %s", number, error)
        except InputError as error:
            journal.enter(CampaignState.FAILED, str(error))
            self.store.clean(number)
        state = CampaignState(self.store.get(number).state)
        log.info("campaign %d is %s", number, state)
        return state

    def _forget(
        self, number: int, parent: str | None, due: datetime | None, journal: DatabaseJournal, terms: Terms
    ) -> None:
        if parent is None:
            raise ConfigError("there is no model to forget from", remedy="run `fedforget-server train` first")
        reason = journal.entered(CampaignState.RETRAINING)
        if reason is not None:
            self._train(number, journal, terms, "retrained", reason)
            return
        method = terms.experiment.unlearn.method
        if method == "retrain":
            self._train(number, journal, terms, "retrained", "the method is retraining")
            return
        if method in SIMULATED:
            raise ConfigError(f"{method} runs in simulations only", where="unlearn.method", remedy="use another method")
        try:
            done = self._candidate(number, parent, journal, terms)
        except NobodyRetainedError as error:
            self._train(number, journal, terms, "retrained", str(error))
            return
        except UnavailableError as error:
            early = CampaignState(self.store.get(number).state) in {CampaignState.COLLECTING, CampaignState.UNLEARNING}
            limit = timedelta(hours=terms.policy.escalate_hours)
            if not early or due is None or self.store.clock() < due - limit:
                raise
            journal.note("escalated", f"{error}; due {due:%Y-%m-%d %H:%M} UTC")
            self._train(number, journal, terms, "retrained", f"{error}, and the due date is near")
            return
        verdict = self._judge(done, journal, terms)
        if verdict.outcome == "accepted" and not verdict.vetoes:
            provenance = self._provenance(terms, done.rounds, done.figures, sorted(done.collected.retain_studies))
            self._publish(number, done.state, journal, provenance, parent=parent, how="unlearned", reason=verdict.text)
            return
        self._undecided(number, parent, verdict, journal, terms)

    def _candidate(self, number: int, parent: str, journal: DatabaseJournal, terms: Terms) -> Campaign:
        return run_campaign(
            self.federation,
            self.registry.load(parent),
            terms.experiment,
            journal=journal,
            folder=self.store.folder(number),
            on_round=log_round,
            quorum=terms.policy.quorum,
        )

    def _judge(self, done: Campaign, journal: DatabaseJournal, terms: Terms) -> Verdict:
        def work() -> tuple[Verdict, None]:
            decision = decide(done.before, done.figures, terms.experiment.decision)
            vetoes = veto(done.before, done.figures, done.collected.forgetting, terms.experiment.decision)
            return Verdict(outcome=decision.outcome, reasons=decision.reasons, vetoes=tuple(vetoes)), None

        return step(journal, "verdict", Verdict, work)[0]

    def _undecided(self, number: int, parent: str, verdict: Verdict, journal: DatabaseJournal, terms: Terms) -> None:
        """What the policy that was chosen beforehand says."""
        policy = terms.policy.undecided
        reason = f"{verdict.outcome}, policy {policy}: {verdict.text}"
        if policy == "retrain":
            self._train(number, journal, terms, "retrained", reason)
            return
        if policy == "withdraw" and self.registry.get(parent).state != "withdrawn":
            self.registry.withdraw(parent, f"campaign {number}: {verdict.outcome}")
        rejected = verdict.outcome == "rejected" or verdict.vetoes
        journal.enter(CampaignState.REJECTED if rejected else CampaignState.INCONCLUSIVE, reason)

    def _train(self, number: int, journal: DatabaseJournal, terms: Terms, how: How, reason: str) -> None:
        """Train from new weights on all who have not revoked, audit, publish."""
        journal.enter(CampaignState.RETRAINING, reason)
        config = terms.experiment
        seed = derive_seed(config.seed, how, number) % 2**31
        done = train(
            self.federation,
            self.card.build(seed).state_dict(),
            config.train,
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
            lambda: (audit(self.federation, done.state, config.decision, config.seed), None),
        )
        sites = sorted(done.sites - {name for r in done.rounds for name in r.missing})
        provenance = self._provenance(terms, done.rounds, figures, sites)
        self._publish(number, done.state, journal, provenance, parent=None, how=how, reason=reason)

    def _provenance(
        self, terms: Terms, rounds: Sequence[Round], figures: FederationFigures, sites: Sequence[str]
    ) -> Provenance:
        return Provenance(
            round=next((r.round for r in rounds if r.kept), 0),
            run=self.run,
            code=own_version(),
            config=hashlib.sha256(terms.experiment.model_dump_json().encode()).hexdigest(),
            sites=tuple(sites),
            metrics=metrics_of(figures, self.card.classes),
        )

    def _publish(
        self,
        number: int,
        state: Mapping[str, Tensor],
        journal: DatabaseJournal,
        provenance: Provenance,
        *,
        parent: str | None,
        how: How,
        reason: str,
    ) -> None:
        version = self.registry.publish(state, self.card, parent=parent, campaign=number, provenance=provenance)
        journal.put("published", Published(version=version.name, how=how))
        self.store.publish(number, version.name)
        if how != "trained":
            # Which version saw whom only the sites know; whoever revoked by now may be in any that came before.
            seen = [v.name for v in self.registry.versions() if v.name != version.name]
            self.registry.quarantine(seen, f"saw patients whom campaign {number} forgot")
        self._adopt(version, state, how, self.federation.sites)
        journal.enter(CampaignState.PUBLISHED, f"{version.name}, {how}" + (f": {reason}" if reason else ""))

    def _catch_up(self, number: int) -> None:
        """Give the active version to sites that were not there when it was published, and have them close."""
        active = self.registry.active()
        if active is None or active.campaign in {None, number}:
            return
        have = {delivery.site for delivery in self.registry.recipients(active.name)}
        late = [name for name in self.federation.sites if name not in have]
        if not late:
            return
        found = self.store.journal_body(active.campaign or 0, "published", Published)
        if found is not None:
            self._adopt(active, self.registry.load(active.name), found.how, late)

    def _adopt(self, version: Version, state: State | Mapping[str, Tensor], how: How, sites: Sequence[str]) -> None:
        """Send a published version to `sites` as their new base. Who is not there gets it before the next campaign."""
        scope = self.federation.scope
        self.federation.scope = Scope(version.campaign or 0, ADOPT)
        plain = AdoptRequest(version=version.name, digest=version.weights, campaign=version.campaign or 0, how=how)
        by_owed: dict[tuple[str, ...], RecordDict] = {}
        requests = {}
        for name in sites:
            owed = self.registry.owed(name)
            if owed not in by_owed:
                by_owed[owed] = self.federation.downlink.whole(plain.model_copy(update={"retired": owed}), state)
            requests[name] = by_owed[owed]
        try:
            for name, records in self.federation.exchange(ADOPT, requests):
                reply = self.federation.read(name, ADOPT, records, AdoptReply)
                if reply is not None:
                    self.registry.deliver(version.name, name)
                    self.registry.purged(name, reply.purged)
        except UnavailableError as error:
            log.warning("%s is published, but %s", version.name, error)
        finally:
            self.federation.scope = scope


def log_round(record: Round) -> None:
    """A line for each round."""
    loss = "" if record.validation_loss is None else f", validation loss {record.validation_loss:.3f}"
    log.info("%s round %d%s", record.phase, record.round, loss)
