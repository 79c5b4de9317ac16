"""Two sites with fold scores in this process, a model in use, and a register of rehearsals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from client.app import app, open_site
from client.cohort.site import Site
from client.cohort.site_files import write_site
from common.learning.config import CampaignConfig, ExperimentConfig, FoldsConfig, TrainConfig, UnlearnConfig
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Cohort, Split, Subset
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register, configuration_digest, plan_register, rehearsing_sites
from server.campaign.qualification.result import Result
from server.campaign.qualification.runner import QualificationRun
from server.rounds.exchanges.connecting import connect
from server.rounds.fold_training import train_folds
from simulations.run.local_grid import LocalGrid

SETS = {Subset.TRAIN: 14, Subset.VALIDATION: 2, Subset.CALIBRATION: 6, Subset.AUDIT: 10, Subset.TEST: 8}
PLAN = QualificationPlan(rehearsals=6, sizes=(1, 4), least_controls=20, controls_per_site=5, wave=4, retries=0)
CONFIG = ExperimentConfig(
    train=TrainConfig(rounds=1, local_epochs=1, batch=8, lr=1e-2),
    unlearn=UnlearnConfig(passes=2),
    campaign=CampaignConfig(retention_rounds=1),
    folds=FoldsConfig(targets=2, audit=2),
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """Two sites with fold scores, the model in use, and a register for it."""

    def __init__(self, folder: Path, card: ModelCard, cohort_of: Callable[..., Cohort]) -> None:
        open_site.cache_clear()
        self.folder = folder
        self.card = card
        configs = {}
        for node, name in enumerate(("north", "south"), start=1):
            cohort = cohort_of(sum(SETS.values()), name=name, studies=1, seed=node, site=name)
            subsets = [subset for subset, count in SETS.items() for _ in range(count)]
            split = Split(dict(zip(cohort.patients, subsets, strict=True)))
            site = folder / "sites" / name
            write_site(site, cohort, split, card, name=name, seed=0, device="cpu", cache=folder / "cache")
            configs[node] = {"site-dir": str(site)}
        self.grid = LocalGrid(app, configs)
        self.federation = connect(self.grid, 2)
        self.state: Mapping[str, Tensor] = card.build(3).state_dict()
        train_folds(
            self.federation, CONFIG.folds, CONFIG.train, card,
            lineage="first", rounds=1, seed=1, folder=folder / "folds",
        )  # fmt: skip
        self.federation.status()
        self.register = self.registered(PLAN)

    def registered(self, plan: QualificationPlan) -> Register:
        circumstances = Circumstances(
            configuration=configuration_digest(CONFIG, 1), lineage="first", aggregation="auto",
            sites=("north", "south"), labels=(0, 1), train_patients=28, at=NOW,
        )  # fmt: skip
        sites = rehearsing_sites(plan, self.federation.registered)
        return plan_register(plan, circumstances, CONFIG, sites=sites, parent=state_digest(self.state))

    def site(self, name: str) -> Site:
        return Site(self.folder / "sites" / name)

    def run(self, journal: str, yields: Callable[[], bool] = lambda: False) -> Result:
        return self.qualifier(journal, yields).run()

    def qualifier(self, journal: str, yields: Callable[[], bool] = lambda: False) -> QualificationRun:
        return QualificationRun(
            self.federation, lambda: self.state, CONFIG, self.register, FolderJournal(self.folder / journal),
            lambda: NOW, yields=yields,
        )  # fmt: skip
