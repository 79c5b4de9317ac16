"""Shadow models: what attackers train who want to tell members by more than the loss of one model.

Each is a federation like the one under attack, trained in the same way on a random half of the patients. From each one
the scores of all patients are kept, the weights are not: a file a shadow, which LiRA, U-LiRA and the forgetting
epsilon share. `shadow_pool.py` reads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from client.app import open_site
from client.cohort.site import Site
from client.cohort.site_files import read_site, write_site
from client.settings import SiteFolder
from common.errors import ConfigError
from common.learning.config import ExperimentConfig, UnlearnConfig
from common.learning.data.splits import choose_forget
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed, pick_device
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.matching import patient_means
from common.learning.evaluation.metrics import macro_auc
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Split, Subset
from common.learning.training import score
from common.settings import override, parse
from server.campaign.campaign import audit, run_campaign
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import train
from server.rounds.unlearning.base import Past
from simulations.run.engine import run_on
from simulations.run.experiment import OnProgress
from simulations.run.folds import folds_beside
from simulations.run.main_job import claim
from simulations.run.prepare import Prepared, prepare
from simulations.run.settings import SimulationConfig, with_method
from simulations.shadows.order import Order, Patients, halves, parse_variant
from simulations.shadows.shadow_pool import TRAINED, ShadowFile, read_shadow, shadow_path, write_shadow

_POOLED = (Subset.TRAIN, Subset.AUDIT)
"""Sets of the federation under attack whose patients the shadows share out; the others are as they are there."""


def train_shadows(config: SimulationConfig, order: Order, out: Path, on_progress: OnProgress) -> None:
    """Train the shadows missing in `out/shadows`; after an interruption, the same call continues.

    Scores depend on the config and the number alone, not on the process or the order.

    Raises:
        InputError: settings, data or folder.
    """
    numbers = order.numbers()
    # Always continued: shadows of other settings must not be mixed with these.
    claim(config, out, resume=True)
    preparation = prepare(config, out, lambda count, total: on_progress("images", count, total))
    pools = {name: _pool(preparation, name) for name in preparation.sites}

    for count, number in enumerate(numbers):
        on_progress("shadows", count, len(numbers))
        path = shadow_path(out, number)
        earlier = read_shadow(path) if path.exists() else None
        missing = [m for m in (TRAINED, *order.methods) if earlier is None or m not in earlier.confidence]
        if missing:
            write_shadow(path, _Shadow(config, preparation, pools, number, on_progress).run(order.methods, earlier))

    on_progress("shadows", len(numbers), len(numbers))


@dataclass(frozen=True, slots=True)
class _Shadow:
    config: SimulationConfig
    preparation: Prepared
    pools: Patients
    number: int
    on_progress: OnProgress

    def run(self, methods: Collection[str], earlier: ShadowFile | None) -> ShadowFile:
        """Train, score, unlearn by each method and score again; the weights are deleted."""
        results: list[ShadowFile] = []
        members, forget = self._write_sites()

        def main(grid: Grid) -> None:
            federation = connect(grid, len(self.preparation.sites))
            results.append(self._scores(federation, members, forget, methods, earlier))

        open_site.cache_clear()
        run_on("inprocess", main, sites_folder=self._folder / "sites", sites=len(self.preparation.sites))
        open_site.cache_clear()
        shutil.rmtree(self._folder)

        return results[0]

    @property
    def _folder(self) -> Path:
        return self.preparation.folder / "work" / f"{self.number:03d}"

    @property
    def _seed(self) -> int:
        return derive_seed(self.config.experiment.seed, "shadow", self.number) % 2**31

    def _write_sites(self) -> tuple[Patients, Patients]:
        """Folders of the shadow's sites; who is trained on at each, and who of these revokes."""
        members: Patients = {}
        forget: Patients = {}
        forgetting = self.config.forget_sites or (self.preparation.sites[0],)

        for name in self.preparation.sites:
            file = read_site(self.preparation.site_folder(name))
            pool = self.pools[name]
            # A seed a site: the same permutation at all of them would put the same places together.
            inside = halves(pool, self.number, derive_seed(self.config.experiment.seed, name))
            sets = {p: Subset.TRAIN if p in inside else Subset.AUDIT for p in pool}
            split = Split({**file.subsets, **sets})
            members[name] = tuple(sorted(inside))
            if name in forgetting:
                forget[name] = choose_forget(file.cohort, split, self._forgotten(len(inside), forgetting), self._seed)
            # The folder of an interrupted run may hold revocations; the scores by fold models are still those.
            folder = SiteFolder(self._folder / "sites" / name)
            scores = folder.simulated_fold_scores
            scores_before = scores.read_bytes() if scores.exists() else None
            shutil.rmtree(folder.root, ignore_errors=True)
            write_site(
                self._folder / "sites" / name, file.cohort, split, self.preparation.card,
                name=name, seed=file.seed, device=file.device, cache=Path(file.cache),
            )  # fmt: skip
            if scores_before is not None:
                scores.write_bytes(scores_before)

        return members, forget

    def _forgotten(self, members: int, forgetting: Collection[str]) -> int:
        """Number of forget patients per site, in proportion to the half that is trained on."""
        count = self.config.forget
        if isinstance(count, str):
            raise ConfigError("shadows forget patients of their own", where="forget", remedy="use a number or a share")
        total = round(count * members * len(self.preparation.sites)) if count < 1 else int(count)

        return max(1, min(total // len(forgetting), members - 1))

    def _scores(
        self,
        federation: Federation,
        members: Patients,
        forget: Patients,
        methods: Collection[str],
        earlier: ShadowFile | None,
    ) -> ShadowFile:
        experiment = self._experiment()
        federation.downlink = Downlink(
            experiment.wire.precision, self.preparation.card.frozen_names(), self.preparation.card.encoders
        )
        # Initial weights differ between shadows, as an attacker does not know the target's.
        initial = self.preparation.card.build(self._seed).state_dict()
        result = train(
            federation,
            initial,
            experiment.train,
            self.preparation.card,
            seed=self._seed,
            folder=self._folder / "train",
            on_round=lambda record: self._told(record.round + 1),
        )
        self._told(experiment.train.rounds)
        training_cost = federation.meter.forward_units
        folds = folds_beside(
            federation,
            experiment,
            self.preparation.card,
            result.rounds,
            lineage="shadow",
            folder=self._folder / "folds",
        )
        tensors = pooled_tensors(self.preparation, self.pools)
        confidence = {} if earlier is None else dict(earlier.confidence)
        confidence[TRAINED] = pooled_confidence(self.preparation.card, tensors, result.state, experiment.device)
        utility = {} if earlier is None else dict(earlier.utility)
        cost = {} if earlier is None else dict(earlier.cost)
        cost[TRAINED] = training_cost
        # Methods of an earlier call are kept; the shadow was trained with the same seeds and has the same weights.
        todo = [name for name in methods if name not in confidence]

        if todo:
            for name, patients in forget.items():
                Site(self._folder / "sites" / name).revoke(patients)
            before = audit(federation, result.state, experiment.decision, experiment.seed)
            utility[TRAINED] = _test_auc(before)

        for name in todo:
            after = run_campaign(
                federation,
                result.state,
                self._with_method(name, len(forget)),
                journal=MemoryJournal(before=before),
                folder=self._folder / name,
                on_round=lambda _: None,
                past=Past(self.preparation.card, initial, result.rounds),
            )
            confidence[name] = pooled_confidence(self.preparation.card, tensors, after.state, experiment.device)
            utility[name] = _test_auc(after.figures)
            cost[name] = after.unlearn_cost.forward_units + after.retain_cost.forward_units

        rows = [(site, patient) for site in self.preparation.sites for patient in self.pools[site]]

        return ShadowFile(
            sites=tuple(site for site, _ in rows),
            patients=tuple(patient for _, patient in rows),
            members=_marked(rows, members),
            forgotten=_marked(rows, forget),
            confidence=confidence,
            utility=utility,
            cost=cost,
            folds_cost=folds.forward_units,
        )

    def _told(self, rounds: int) -> None:
        self.on_progress(f"shadow {self.number}", rounds, self.config.experiment.train.rounds)

    def _experiment(self) -> ExperimentConfig:
        experiment = self.config.experiment
        decision = experiment.decision.model_copy(update={"bootstrap": 50})  # no decision rests on a shadow
        train_config = experiment.train.model_copy(update={"keep_norms": True})
        return experiment.model_copy(update={"decision": decision, "train": train_config, "seed": self._seed})

    def _with_method(self, name: str, forgetting: int) -> ExperimentConfig:
        """The shadow's settings with the method's preset over them."""
        method, own_settings = parse_variant(name)
        own = method == self.config.experiment.unlearn.method
        settings = (self.config if own else with_method(self.config, method)).experiment
        if own_settings:
            values = override({"unlearn": settings.unlearn.model_dump(mode="json")}, own_settings)
            settings = settings.model_copy(update={"unlearn": parse(UnlearnConfig, values["unlearn"], name)})
        campaign = settings.campaign
        # One site's weights can replace the model only if no other site unlearns.
        if campaign.aggregation == "replace" and forgetting > 1:
            campaign = campaign.model_copy(update={"aggregation": "relay"})
        return self._experiment().model_copy(update={"unlearn": settings.unlearn, "campaign": campaign})


def _test_auc(figures: FederationFigures) -> float:
    value = macro_auc(figures.groups["test"]["fused"])
    return float("nan") if value is None else value


def _pool(preparation: Prepared, site: str) -> tuple[str, ...]:
    file = read_site(preparation.site_folder(site))
    there = frozenset(file.cohort.patients)
    return tuple(sorted(p for p, subset in file.subsets.items() if subset in _POOLED and p in there))


def _marked(rows: Iterable[tuple[str, str]], chosen: Mapping[str, Collection[str]]) -> NDArray[np.bool_]:
    sets = {site: frozenset(patients) for site, patients in chosen.items()}
    return np.array([patient in sets.get(site, ()) for site, patient in rows])


def pooled_tensors(preparation: Prepared, pools: Mapping[str, Sequence[str]]) -> list[StudyTensors]:
    """Studies of the patients of each site, in the order of their ids."""
    tensors = []

    for name in sorted(pools):
        site = Site(preparation.site_folder(name))
        rank = {patient: at for at, patient in enumerate(pools[name])}
        studies = sorted(site.cohort.of(pools[name]).studies, key=lambda study: rank[study.patient])
        tensors.append(site.tensors(tuple(studies)))

    return tensors


def pooled_confidence(
    card: ModelCard, tensors: Sequence[StudyTensors], state: Mapping[str, Tensor], device: str
) -> NDArray[np.float64]:
    """Mean logit-scaled confidence of each patient on each branch, `[3, n]`, site after site."""
    model = card.build().to(pick_device(device))
    model.load_state_dict(dict(state))
    scores = [score(model, studies) for studies in tensors]

    # A patient's studies count together: members are patients, not pictures.
    return np.concatenate([patient_means(part.margin, part.patients) for part in scores], axis=1)
