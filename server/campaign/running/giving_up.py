"""A campaign whose hospitals do not unlearn goes on without them, after as many tries as the policy allows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from server.campaign.campaign import Aside, NobodyWaitsError
from server.campaign.journal import DatabaseJournal
from server.campaign.running.set_aside import note_tries, set_aside, tries_of
from server.campaign.running.tries import failed_before
from server.campaign.store import CampaignStore
from server.rounds.federation import Federation
from server.rounds.unlearning.base import Collected, NotUnlearnedError
from server.settings import Terms


@dataclass(frozen=True)
class GivingUp:
    """Decides when a campaign stops waiting for a hospital, and puts that on record."""

    federation: Federation
    store: CampaignStore

    def goes_on_without(self, number: int, error: NotUnlearnedError, journal: DatabaseJournal, terms: Terms) -> bool:
        """Set aside the hospitals that did not unlearn in enough tries; whether the campaign goes on without them.

        Raises:
            NobodyWaitsError: nobody is left.
        """
        # Before it is judged: a crash in between must not give a hospital one try more.
        note_tries(self.store, number, error.sites, self.federation.refusing_sites)
        tries = tries_of(self.store, number)
        holding = self.federation.holding
        given_up = {name for name in error.sites if tries[name] >= terms.policy.unlearn_tries or holding.over(name)}

        # Nobody in particular: no site that answers has a revocation.
        nobody = not error.sites and failed_before(self.store, number) + 1 >= terms.policy.unlearn_tries
        if not given_up and not nobody:
            return False

        self.set_aside(number, given_up, str(error), terms)
        before = journal.get("aside", Aside)
        aside = {*given_up, *(before[0].sites if before else ())}
        journal.put("aside", Aside(sites=tuple(sorted(aside))))

        collection = journal.get("collect", Collected)
        if collection is None or not set(collection[0].forgetting) - aside:
            count = max((tries[name] for name in given_up), default=terms.policy.unlearn_tries)
            raise NobodyWaitsError(f"given up after {count} tries: {error}")

        journal.note("dropped", f"the campaign goes on without {', '.join(sorted(given_up))}: {error}")
        return True

    def for_retraining(self, number: int, error: NotUnlearnedError, terms: Terms) -> None:
        """Set the hospitals aside that have not unlearned, because a due date does not wait for them."""
        note_tries(self.store, number, error.sites, self.federation.refusing_sites)
        self.set_aside(number, error.sites, str(error), terms)

    def set_aside(self, number: int, sites: Collection[str], why: str, terms: Terms) -> None:
        """Put hospitals on record as set aside, and send nothing more to those that the policy shuts out."""
        shut_out = set_aside(self.store, number, sites, terms.policy, why)
        nodes = self.federation.nodes
        self.federation.nodes = {name: node for name, node in nodes.items() if name not in shut_out}
