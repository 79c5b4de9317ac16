"""A coordinator's database and campaign code with real sites in this process: for tests of campaigns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import pytest
from sqlalchemy import Engine

from client.app import open_site
from client.cohort.site import Site
from client.revocations.opening import open_ledger
from client.revocations.revocation import Event
from client.settings import SiteFolder
from common.learning.config import (
    CampaignConfig,
    DecisionConfig,
    ExperimentConfig,
    FoldsConfig,
    TrainConfig,
    UnlearnConfig,
)
from common.learning.model.card import ModelCard
from common.learning.records import Subset
from common.platform.sql import open_database, transaction
from server.campaign.running.lifecycle import CampaignRunner
from server.campaign.store import CampaignStore
from server.database import SiteRow, migrate
from server.registry.registry import Registry
from server.registry.versions import Version
from server.rounds.federation import Federation
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


class World:
    """A coordinator's database and folders, and the sites of a federation that its campaigns run with."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        federation: Federation,
        sites: dict[str, Site],
        card: ModelCard,
        clock: Clock,
    ) -> None:
        self.engine = engine
        self.clock = clock
        migrate(engine)
        with transaction(engine) as session:
            session.add_all(
                SiteRow(name=site, state="active", node_key="", signing_key="", certificate="", enrolled=NOW)
                for site in sites
            )

        self.store = CampaignStore(engine, folder / "work", clock)
        self.registry = Registry(folder / "models", engine, clock)
        self.federation = federation
        self.sites = sites
        self.carrier = CampaignRunner(federation, self.store, self.registry, card)

    def plan(
        self,
        kind: str = "unlearning",
        due: datetime | None = None,
        method: str = "forget_mi_calibrated",
        sites: Collection[str] | None = None,
        decision: DecisionConfig | None = None,
        folds: FoldsConfig = EXPERIMENT.folds,
        **policy: object,
    ) -> int:
        unlearn = EXPERIMENT.unlearn.model_copy(update={"method": method})
        chosen_parts = {"unlearn": unlearn, "decision": decision or EXPERIMENT.decision, "folds": folds}
        experiment = EXPERIMENT.model_copy(update=chosen_parts)
        # One retention round unless a test asks for more: they are most of a small campaign's time.
        chosen = PolicyConfig.model_validate({"quorum": 0.4, "single_writer": "accept", **policy})
        terms = Terms(experiment=experiment, policy=chosen, gate=GateConfig())
        active = self.registry.active()
        parent = active.name if active and kind == "unlearning" else None

        return self.store.plan(kind, terms.model_dump(mode="json"), parent=parent, due=due, reason="test", sites=sites)

    def carry(self, number: int) -> CampaignState:
        state = self.carrier.carry_on(number, self.store.take_up(number))
        print(self.store.get(number).reason)  # shown where a test fails
        return state

    def trained(self) -> Self:
        assert self.carry(self.plan("training")) == "published"
        return self

    def active(self) -> Version:
        """The version in use, which there is."""
        version = self.registry.active()
        assert version is not None
        return version

    def revoke(self, site: str = "north", count: int = 1) -> None:
        known = self.sites[site]
        known.revoke(sorted(known.patients(Subset.TRAIN))[:count])
        self.announce(site, count)

    def announce(self, site: str, pending: int, due: datetime | None = None) -> None:
        with transaction(self.engine) as session:
            row = session.get_one(SiteRow, site)
            row.pending = pending
            row.first_due = due
            row.announced = self.clock() if pending else None

    def site(self, name: str) -> SiteRow:
        with transaction(self.engine) as session:
            return session.get_one(SiteRow, name)

    def histories(self, site: str) -> list[tuple[str, tuple[Event, ...]]]:
        """Every receipt of a site, with the steps of its revocations."""
        with open_ledger(SiteFolder(self.sites[site].folder)) as ledger:
            receipts = dict.fromkeys(standing.receipt for standing in ledger.standing())
            return [(receipt, ledger.history(receipt)) for receipt in receipts]

    def kinds(self, number: int) -> list[tuple[str, str | None]]:
        return [(event.kind, event.site) for event in self.store.events(number) if event.kind != "state"]


class MakeWorld(Protocol):
    """Makes a coordinator by its name; all of them ask the same sites, and read the same clock."""

    def __call__(self, name: str = "server") -> World: ...


@pytest.fixture
def world(
    tmp_path: Path,
    database: Callable[[str], str],
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]],
    card: ModelCard,
) -> Iterator[MakeWorld]:
    federation, sites = federation_of(north=3, south=3)
    engines = []
    clock = Clock()

    def make(name: str = "server") -> World:
        engine = open_database(database(name))
        engines.append(engine)
        return World(engine, tmp_path / name, federation, sites, card, clock)

    yield make
    for engine in engines:
        engine.dispose()
    open_site.cache_clear()
