"""A campaign's model becomes a version: provenance, publication, quarantine of the earlier ones, delivery to sites."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flwr.app import RecordDict
from pydantic import BaseModel
from torch import Tensor

from common.errors import UnavailableError
from common.evidence.outcomes.grounds import Grounds, Outcome
from common.installation import own_version
from common.learning.evaluation.figures import FederationFigures
from common.learning.model.checkpoint import ModelCard, check_state
from common.platform.sql import transaction
from common.protocol.messages import ADOPT, REASON_LENGTH, AdoptReply, AdoptRequest
from server.campaign.journal import DatabaseJournal
from server.campaign.store import CampaignStore
from server.campaign.verdict.judging import Verdict
from server.database import EventRow, SiteRow
from server.registry.manifest import Provenance
from server.registry.registry import Registry
from server.registry.version_figures import metrics_of
from server.registry.versions import Version
from server.rounds.exchanges.signer import Scope
from server.rounds.federation import Federation
from server.rounds.states import CampaignState
from server.rounds.training import Round
from server.settings import Terms

log = logging.getLogger("fedforget.server")

ADOPT_SECONDS = 1800.0
"""Deadline of a delivery; who misses it gets the version before the next campaign, and holds up nobody until then."""

How = Literal["trained", "unlearned", "retrained", "exact"]


class Published(BaseModel):
    """The version that a campaign ended in, how it forgets, and why so."""

    version: str
    how: How
    reason: str = ""
    outcome: Outcome | None = None
    grounds: Grounds | None = None


class Overruled(BaseModel):
    """Why a person publishes what was rejected."""

    reason: str


class Proposed(BaseModel):
    """What a campaign would publish; its weights stand beside it."""

    how: How
    parent: str | None
    reason: str
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes for one federation."""

    federation: Federation
    store: CampaignStore
    registry: Registry
    card: ModelCard
    run: int | None = None
    """Flower's run id, for the record."""

    def provenance(
        self,
        terms: Terms,
        rounds: Sequence[Round],
        figures: FederationFigures,
        sites: Sequence[str],
        verdict: Verdict | None,
    ) -> Provenance:
        """The record of how weights came about; `verdict` where patients are forgotten by them."""
        return Provenance(
            round=next((r.round for r in rounds if r.kept), 0),
            run=self.run,
            code=own_version(),
            config=hashlib.sha256(terms.experiment.model_dump_json().encode()).hexdigest(),
            sites=tuple(sites),
            metrics=metrics_of(figures, self.card.classes),
            outcome=verdict.outcome if verdict else None,
            grounds=verdict.grounds if verdict else None,
        )

    def publish(self, number: int, state: Mapping[str, Tensor], journal: DatabaseJournal, proposed: Proposed) -> None:
        """Make the proposed model the active version, take those that saw the patients out of use, and deliver it.

        Raises:
            CheckpointError: a weight is not finite, or the model is another one.
        """
        # Checked once more: nothing that is not finite may become public.
        check_state(state, self.card.build().state_dict(), where="the model to publish")
        how = proposed.how
        reason = proposed.reason
        version = self.registry.publish(
            state, self.card, parent=proposed.parent, campaign=number, provenance=proposed.provenance
        )
        facts = proposed.provenance
        publication = Published(
            version=version.name, how=how, reason=reason, outcome=facts.outcome, grounds=facts.grounds
        )
        journal.put("published", publication)
        self.store.publish(number, version.name)

        if how != "trained":
            # Which version saw whom only the sites know; whoever revoked by now may be in any that came before.
            other_versions = [v.name for v in self.registry.versions() if v.name != version.name]
            self.registry.quarantine(other_versions, f"saw patients whom campaign {number} forgot")

        self.adopt(version, state, publication, self.federation.sites)
        # The state comes last: a run that starts again finds the version that is there, and repeats what is missing.
        journal.enter(CampaignState.PUBLISHED, f"{version.name}, {how}" + (f": {reason}" if reason else ""))

    def catch_up(self, number: int) -> None:
        """Give the active version to sites that were not there when it was published, and have them close."""
        active = self.registry.active()
        if active is None or active.campaign in {None, number}:
            return
        have = {delivery.site for delivery in self.registry.deliveries.recipients(active.name)}
        late = [name for name in self.federation.sites if name not in have]
        if not late:
            return
        publication = self.store.journal_body(active.campaign or 0, "published", Published)
        if publication is not None:
            self.adopt(active, self.registry.load(active.name), publication, late)

    def adopt(self, version: Version, state: Mapping[str, Tensor], published: Published, sites: Sequence[str]) -> None:
        """Send a published version to `sites` as their new base. Who is not there gets it before the next campaign."""
        scope = self.federation.scope
        # A delivery belongs to the campaign of its version, and not to the one that is being carried on.
        self.federation.scope = Scope(version.campaign or 0, ADOPT)
        plain = AdoptRequest(
            version=version.name,
            digest=version.weights,
            campaign=version.campaign or 0,
            # To a hospital it is a retraining: whoever had revoked before it began is not in the model.
            how="retrained" if published.how == "exact" else published.how,
            reason=published.reason[:REASON_LENGTH],
        )
        by_owed: dict[tuple[str, ...], RecordDict] = {}
        requests = {}

        for name in sites:
            # Hospitals that owe the same deletions share one message, which Flower uploads once.
            owed = self.registry.deliveries.owed(name)
            if owed not in by_owed:
                by_owed[owed] = self.federation.downlink.whole(plain.model_copy(update={"retired": owed}), state)
            requests[name] = by_owed[owed]

        deadline = min(self.federation.timeout, ADOPT_SECONDS)
        try:
            for name, records in self.federation.exchange(ADOPT, requests, deadline):
                reply = self.federation.read(name, ADOPT, records, AdoptReply)
                if reply is not None:
                    self.registry.deliveries.deliver(version.name, name)
                    self.registry.deliveries.purged(name, reply.purged)
                    if reply.closed > 0:
                        self._closed(version, name, reply.closed)
        # It is published whoever was there: `catch_up` delivers it to the others before the next campaign.
        except UnavailableError as error:
            log.warning("%s is published, but %s", version.name, error)
        finally:
            self.federation.scope = scope

    def _closed(self, version: Version, site: str, count: int) -> None:
        detail = f"{version.name}: patients whose revocations it answers: {count}"
        with transaction(self.store.engine) as session:
            event = EventRow(
                at=self.store.clock(), campaign=version.campaign, site=site, kind="forgotten", detail=detail
            )
            session.add(event)
            # Else the coordinator would plan a campaign for them again before the hospital next announces who waits.
            # The announcement, which comes with every heartbeat, has the last word.
            row = session.get(SiteRow, site)
            if row is not None:
                row.pending = max(0, row.pending - count)
                if not row.pending:
                    row.announced = None
                    row.first_due = None
