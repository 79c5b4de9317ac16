"""Fold models of a federation: several in a message, resumed after a kill, and destroyed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from flwr.app import RecordDict

from client.cohort.site import Site
from client.cohort.site_data import SiteData
from common.learning.config import FoldsConfig, TrainConfig
from common.learning.folds.margins import OutOfFold
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.protocol.messages import TRAIN
from server.rounds.federation import Federation
from server.rounds.fold_training import Folded, fold_models, groups_of, train_folds

CONFIG = FoldsConfig(targets=3, audit=2)
TRAINING = TrainConfig(rounds=2, local_epochs=1, batch=4, lr=1e-2)
FederationOf = Callable[..., tuple[Federation, dict[str, Site]]]


def fold(
    federation: Federation, card: ModelCard, folder: Path, config: FoldsConfig = CONFIG, **changes: object
) -> Folded:
    return train_folds(
        federation, config, TRAINING, card, lineage="campaign-1", rounds=2, seed=5, folder=folder,
        **changes,  # type: ignore[arg-type]  # a callback
    )  # fmt: skip


def rows(site: Site, family: str) -> OutOfFold | None:
    patients = sorted(site.patients(Subset.TRAIN))
    return SiteData(site.folder).fold_scores.read(family, patients, sorted(site.patients(Subset.AUDIT)))  # type: ignore[arg-type]


def counted(federation: Federation) -> list[str]:
    """Kinds of the exchanges from here on."""
    kinds: list[str] = []
    exchange = federation.exchange

    def noted(
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        kinds.append(kind)
        return exchange(kind, requests, deadline, whole)

    federation.exchange = noted  # type: ignore[method-assign]

    return kinds


def test_all_fold_models_take_the_exchanges_of_one_training(
    federation_of: FederationOf, card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = federation_of(north=6, south=5)
    kinds = counted(federation)
    folded = fold(federation, card, tmp_path / "folds")
    assert kinds.count(TRAIN) == 2
    assert kinds.count("evaluate") == 1
    assert folded.without == ()
    # Each fold model trains on the others' share: (3 - 1) + (2 - 1) trainings of two rounds, 3 a study and epoch.
    training = (2 + 1) * 11 * 2 * 3
    assert training <= folded.cost["forward_units"] <= training + 5 * 11 + 5 * 8

    for site in sites.values():
        for family, count in (("targets", 3), ("audit", 2)):
            scores = rows(site, family)
            assert scores is not None
            assert scores.known().all()
            assert set(scores.fold.tolist()) == set(range(count))


def test_weights_are_destroyed_on_both_sides(federation_of: FederationOf, card: ModelCard, tmp_path: Path) -> None:
    federation, _ = federation_of(north=5, south=5)
    needles: set[bytes] = set()
    folder = tmp_path / "server" / "folds"

    def remember(finished: int, _: int) -> None:
        for path in folder.rglob("model.safetensors"):
            needles.add(path.read_bytes()[-400:-300])
        assert finished

    fold(federation, card, folder, on_round=remember)
    assert len(needles) >= 10
    for path in tmp_path.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(needle in held for needle in needles), path
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_run_goes_on_and_ends_in_the_same_scores(
    federation_of: FederationOf, card: ModelCard, tmp_path: Path, at: int
) -> None:
    class KilledError(Exception):
        pass

    federation, sites = federation_of(north=5, south=4)
    one_by_one = CONFIG.model_copy(update={"message_bytes": 2**20, "targets": 2, "audit": 0})

    def kill(finished: int, _: int) -> None:
        if finished == at:
            raise KilledError

    size = sum(t.numel() * t.element_size() for t in card.build().state_dict().values())
    assert size < 2**20
    straight = fold(federation, card, tmp_path / "straight", one_by_one)
    expected = {name: rows(site, "targets") for name, site in sites.items()}
    if at <= 2:
        with pytest.raises(KilledError):
            fold(federation, card, tmp_path / "killed", one_by_one, on_round=kill)
    resumed = fold(federation, card, tmp_path / "killed", one_by_one)
    assert resumed.cost["forward_units"] == straight.cost["forward_units"]

    for name, site in sites.items():
        got = rows(site, "targets")
        want = expected[name]
        assert got is not None
        assert want is not None
        assert got.margins.tolist() == want.margins.tolist()

    # A third call finds it finished and asks nobody.
    kinds = counted(federation)
    fold(federation, card, tmp_path / "killed", one_by_one)
    assert kinds == []


def test_models_beyond_the_size_of_a_message_travel_in_several() -> None:
    models = fold_models(FoldsConfig(targets=4, audit=2))
    assert [len(group) for group in groups_of(models, 100, 250)] == [2, 2, 2]
    assert [len(group) for group in groups_of(models, 100, 50)] == [1] * 6
    assert groups_of((), 100, 50) == []


def test_without_fold_models_nobody_is_asked(federation_of: FederationOf, card: ModelCard, tmp_path: Path) -> None:
    federation, _ = federation_of(north=3)
    kinds = counted(federation)
    assert fold(federation, card, tmp_path / "folds", FoldsConfig()) == Folded()
    assert kinds == []


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_short_forms_on_the_wire_leave_no_errors_of_fold_models_behind(
    federation_of: FederationOf, card: ModelCard, tmp_path: Path, precision: str
) -> None:
    federation, sites = federation_of(north=4)
    federation.downlink.precision = precision  # type: ignore[assignment]
    fold(federation, card, tmp_path / "folds")
    scores = rows(sites["north"], "targets")
    assert scores is not None
    assert scores.known().all()
    assert not (sites["north"].folder / "working").exists()
