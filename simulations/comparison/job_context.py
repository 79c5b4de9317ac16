"""What every job of a comparison needs: its settings, folder and deadline, the worlds and the originals."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from common.learning.config import ExperimentConfig
from common.learning.data.tables.patient_list import read_patient_list
from common.settings import parse
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.training import Round, Trained
from simulations.comparison.plan import ORIGINAL, compared, tuned_on
from simulations.comparison.settings import ComparisonConfig
from simulations.comparison.tuning import Setting, with_setting
from simulations.comparison.world import World, make_world
from simulations.run.settings import merged, with_method


class OutOfTimeError(Exception):
    """The budget is spent. Results so far are on disk, and the same command continues."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """The comparison in `out`; jobs share nothing but what earlier phases wrote there.

    Attributes:
        until: seconds since the epoch after which no training round and no cell starts.
    """

    config: ComparisonConfig
    out: Path
    until: float = float("inf")

    def in_time(self, _: Round | None = None) -> None:
        """Raise `OutOfTimeError` if the budget is spent; a callback for rounds of training."""
        if time.time() >= self.until:
            raise OutOfTimeError

    def world_folder(self, seed: int) -> Path:
        """Folder of the world of a seed."""
        return self.out / "worlds" / f"seed-{seed}"

    def make_world(self, seed: int) -> World:
        """Make the world of a seed; the tuning seed gets the patients that no comparison uses."""
        listed_patients = frozenset(chain(*(read_patient_list(Path(file)) for file in self.config.forget_lists)))
        is_tuning = seed == self.config.tuning.seed

        # Synthetic hospitals need no part set aside: another seed generates other patients.
        among = None
        if self.config.run.manifest:
            among = partial(tuned_on if is_tuning else compared, parts=self.config.tuning.parts, exempt=listed_patients)
        # Patients on a list can revoke only if the original was trained on them.
        in_training = frozenset[str]() if is_tuning else listed_patients

        return make_world(self.config.run, seed, self.world_folder(seed), among, lambda *_: None, in_training)

    def train_original(self, world: World, federation: Federation) -> tuple[Trained, Meter]:
        """Train the original of a world with its fold models, or read it back."""
        original, cost = world.train(federation, ORIGINAL, world.folder / ORIGINAL, self.in_time)
        world.train_folds(federation, original, lambda *_: self.in_time())

        return original, cost

    def experiment(
        self, world: World, method: str, aggregation: str, setting: Setting, own: Mapping[str, object] | None = None
    ) -> ExperimentConfig:
        """Settings of an unlearning: the world's, the method's preset, the tuned factors and a variant's `own`.

        Raises:
            ConfigError: `own` has an unknown setting.
        """
        experiment = with_setting(with_method(self.config.run, method).experiment, setting)
        if own:
            experiment = parse(ExperimentConfig, merged(experiment.model_dump(mode="json"), dict(own)), "variants")

        # Replacing the federation's weights by those of one site works for one site only.
        if aggregation == "replace" and len(world.forget_sites) > 1:
            aggregation = "relay"
        campaign = experiment.campaign.model_copy(update={"aggregation": aggregation})

        # Only what unlearning may differ in: training, data and decision are those of the world.
        return world.experiment.model_copy(update={"unlearn": experiment.unlearn, "campaign": campaign})

    def shared_settings(self) -> object:
        """The settings on which every result depends; part of each digest."""
        settings = [self.config.run.model_dump(mode="json"), sorted(self.config.sizes), self.config.tuning.parts]
        # Left out where empty: older results have digests without it.
        return [*settings, self.config.forget_lists] if self.config.forget_lists else settings


def digest(*parts: object) -> str:
    """SHA-256 of JSON values; a result with another digest was made with other settings and is made again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
