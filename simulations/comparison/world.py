"""A federation that many cells share: prepared once per seed, with one original and copies that forget."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.serverapp import Grid

from client.app import open_site
from client.cohort.site import Site
from client.cohort.site_files import read_site, write_site
from client.settings import SiteFolder
from common.files import write_text
from common.learning.config import ExperimentConfig
from common.learning.device import derive_seed
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split
from server.rounds.aggregation import State
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.fold_training import OnFoldRound
from server.rounds.training import OnRound, Trained, train
from simulations.comparison.plan import ForgetSets, forget_sets
from simulations.run.engine import run_on
from simulations.run.folds import folds_beside
from simulations.run.prepare import Among, prepare
from simulations.run.settings import SimulationConfig

FORGET_FILE = "forget.json"


@dataclass(frozen=True, slots=True)
class World:
    """Sites on disk where nobody has revoked."""

    folder: Path
    config: SimulationConfig
    """The experiment, with the seed of this world."""
    card: ModelCard
    sites: tuple[str, ...]

    @property
    def experiment(self) -> ExperimentConfig:
        """Its settings."""
        return self.config.experiment

    def initial(self) -> State:
        """Initial weights of every training."""
        return self.card.build(self.experiment.seed).state_dict()

    def parts(self) -> tuple[dict[str, Cohort], dict[str, Split]]:
        """Cohort and split of each site."""
        files = {name: read_site(self.folder / "sites" / name) for name in self.sites}
        return {n: f.cohort for n, f in files.items()}, {n: Split(f.subsets) for n, f in files.items()}

    def forget_sets(self, sizes: tuple[float, ...], draw: int = 0) -> ForgetSets:
        """See `plan.forget_sets`; each `draw` gives another set."""
        cohorts, splits = self.parts()
        seed = derive_seed(self.experiment.seed, "draw", draw) if draw else self.experiment.seed
        return forget_sets(cohorts, splits, sizes, self.forget_sites, seed)

    def forgetting_at(self, sites: tuple[str, ...]) -> World:
        """The same world with revocations at `sites`."""
        return replace(self, config=self.config.model_copy(update={"forget_sites": sites}))

    @property
    def forget_sites(self) -> tuple[str, ...]:
        """Sites where patients revoke."""
        return self.config.forget_sites or self.sites[:1]

    def training_seed(self, name: str) -> int:
        """Of the training called `name`."""
        return derive_seed(self.experiment.seed, name) % 2**31

    def train(
        self, federation: Federation, name: str, folder: Path, on_round: OnRound, *, rounds: int | None = None
    ) -> tuple[Trained, Meter]:
        """Train from the initial weights, or read back the result in `folder`; returns it with its cost."""
        # FedEraser needs the norms of the former steps, which a training does not keep by itself.
        config = self.experiment.train.model_copy(update={"keep_norms": True})
        if rounds is not None:
            config = config.model_copy(update={"rounds": rounds})
        federation.meter = Meter()
        result = train(
            federation,
            self.initial(),
            config,
            self.card,
            seed=self.training_seed(name),
            folder=folder,
            on_round=on_round,
        )

        return result, federation.meter

    def train_folds(self, federation: Federation, original: Trained, on_round: OnFoldRound = lambda *_: None) -> Meter:
        """Train the fold models beside the original, or read back their cost."""
        return folds_beside(
            federation, self.experiment, self.card, original.rounds,
            lineage="original", folder=self.folder / "folds", on_round=on_round,
        )  # fmt: skip


def make_world(
    config: SimulationConfig,
    seed: int,
    folder: Path,
    among: Among | None,
    on_image: Callable[[int, int], None],
    always_trained: frozenset[str] = frozenset(),
) -> World:
    """Write the sites of a seed; patients in `always_trained` are always in the training set.

    Raises:
        InputError: settings or data.
    """
    own = config.experiment.model_copy(update={"seed": seed})
    # Who forgets is chosen by size, later; what `prepare` asks for must only be possible.
    own_config = config.model_copy(update={"experiment": own, "forget": max(1, len(config.forget_sites))})
    preparation = prepare(own_config, folder, on_image, among, always_trained)

    return World(folder, own_config, preparation.card, preparation.sites)


def open_world(config: SimulationConfig, seed: int, folder: Path) -> World:
    """Open a world made earlier."""
    own = config.experiment.model_copy(update={"seed": seed})
    sites = tuple(sorted(path.parent.name for path in (folder / "sites").glob("*/site.json")))
    card = read_site(folder / "sites" / sites[0]).card

    return World(folder, config.model_copy(update={"experiment": own}), card, sites)


def forgetting_copy(
    world: World, folder: Path, forget: Mapping[str, tuple[str, ...]], split: Callable[[Split], Split] = lambda s: s
) -> None:
    """Copy the sites to `folder/sites`, with the same patients, images and fold scores, and revoke those in `forget`.

    `split` changes the sets of patients.
    """
    marker = folder / FORGET_FILE
    if marker.exists():
        return
    # Without the marker, a copy may be half written.
    shutil.rmtree(folder / "sites", ignore_errors=True)
    for name in world.sites:
        file = read_site(world.folder / "sites" / name)
        write_site(
            folder / "sites" / name, file.cohort, split(Split(file.subsets)), file.card,
            name=name, seed=file.seed, device=file.device, cache=Path(file.cache),
        )  # fmt: skip
        # Fold models are trained once per world; their scores belong to patients, who are the same here.
        scores = SiteFolder(world.folder / "sites" / name).simulated_fold_scores
        if scores.exists():
            shutil.copy(scores, SiteFolder(folder / "sites" / name).simulated_fold_scores)
        if forget.get(name):
            Site(folder / "sites" / name).revoke(forget[name])

    # Last, as it says that all sites are copied and all revocations recorded.
    write_text(marker, json.dumps({name: len(patients) for name, patients in forget.items()}))


def in_federation(world: World, sites: Path, main: Callable[[Federation], None]) -> None:
    """Call `main` with a federation of the site folders in `sites`, in the current process."""

    def with_grid(grid: Grid) -> None:
        federation = connect(grid, len(world.sites))
        federation.downlink = Downlink(world.experiment.wire.precision, world.card.frozen_names(), world.card.encoders)
        main(federation)

    # Sites are opened once per process by path: one whose folder was rewritten would serve the old patients.
    open_site.cache_clear()
    run_on("inprocess", with_grid, sites_folder=sites, sites=len(world.sites))
    open_site.cache_clear()


def site_paths(world: World, folder: Path) -> dict[str, Path]:
    """Folders of the sites in a copy."""
    return {name: folder / "sites" / name for name in world.sites}
