"""A coordinator's database and campaign code with real sites in this process: for tests of campaigns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from client.app import open_site
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.learning.config import CampaignConfig, DecisionConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.learning.records import Subset
from common.platform.sql import open_database, transaction
from server.campaign.running.lifecycle import CampaignRunner
from server.campaign.store import CampaignStore
from server.database import SiteRow, migrate
from server.registry.registry import Registry
from server.rounds.states import CampaignState
from server.settings import GateConfig, PolicyConfig, Terms

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EXPERIMENT = ExperimentConfig(
    train=TrainConfig(rounds=2, local_epochs=1, batch=4, patience=5),
    unlearn=UnlearnConfig(passes=1),
    campaign=CampaignConfig(retention_rounds=1),
    decision=DecisionConfig(bootstrap=50),
)
LENIENT = DecisionConfig(bootstrap=50, auc_margin=0.5, ks_alpha=0.0, accuracy_margin=1.0, utility_tolerance=1.0)
"""With which so few patients can be decided about, and are accepted."""
SOME = DecisionConfig(bootstrap=50, auc_margin=0.499)
"""With which two patients are too few in fact, and not by their number alone."""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def world(tmp_path, database, federation_of, card):
    """A coordinator's database and folders in `make(name)`, and a federation of two sites."""
    federation, sites = federation_of(north=3, south=3)
    engines = []

    class World:
        clock = Clock()

        def __init__(self, name: str = "server") -> None:
            self.engine = open_database(database(name))
            engines.append(self.engine)
            migrate(self.engine)

            with transaction(self.engine) as session:
                session.add_all(
                    SiteRow(name=site, state="active", node_key="", signing_key="", certificate="", enrolled=NOW)
                    for site in sites
                )

            self.store = CampaignStore(self.engine, tmp_path / name / "work", self.clock)
            self.registry = Registry(tmp_path / name / "models", self.engine, self.clock)
            self.federation = federation
            self.sites = sites
            self.carrier = CampaignRunner(federation, self.store, self.registry, card)

        def plan(
            self,
            kind="unlearning",
            due=None,
            method="forget_mi_calibrated",
            sites=None,
            decision=None,
            folds=EXPERIMENT.folds,
            **policy,
        ) -> int:
            unlearn = EXPERIMENT.unlearn.model_copy(update={"method": method})
            chosen_parts = {"unlearn": unlearn, "decision": decision or EXPERIMENT.decision, "folds": folds}
            experiment = EXPERIMENT.model_copy(update=chosen_parts)
            # One retention round unless a test asks for more: they are most of a small campaign's time.
            chosen = {"quorum": 0.4, "single_writer": "accept", **policy}
            terms = Terms(experiment=experiment, policy=PolicyConfig(**chosen), gate=GateConfig())
            active = self.registry.active()
            parent = active.name if active and kind == "unlearning" else None

            return self.store.plan(
                kind, terms.model_dump(mode="json"), parent=parent, due=due, reason="test", sites=sites
            )

        def carry(self, number: int) -> CampaignState:
            state = self.carrier.carry_on(number, self.store.take_up(number))
            print(self.store.get(number).reason)  # shown where a test fails
            return state

        def trained(self):
            assert self.carry(self.plan("training")) == "published"
            return self

        def revoke(self, site="north", count=1):
            known = sites[site]
            known.revoke(sorted(known.patients(Subset.TRAIN))[:count])
            self.announce(site, count)

        def announce(self, site, pending, due=None):
            with transaction(self.engine) as session:
                row = session.get_one(SiteRow, site)
                row.pending, row.first_due, row.announced = pending, due, self.clock() if pending else None

        def site(self, name):
            with transaction(self.engine) as session:
                return session.get_one(SiteRow, name)

        def histories(self, site):
            """Every receipt of a site, with the steps of its revocations."""
            with open_ledger(SiteFolder(sites[site].folder)) as ledger:
                receipts = dict.fromkeys(standing.receipt for standing in ledger.standing())
                return [(receipt, ledger.history(receipt)) for receipt in receipts]

        def kinds(self, number):
            return [(event.kind, event.site) for event in self.store.events(number) if event.kind != "state"]

    yield World
    for engine in engines:
        engine.dispose()
    open_site.cache_clear()
