"""Fold models in a coordinator's campaigns: with the first model, renewed by a retraining, and never in the way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from campaign_world import LENIENT, NOW, MakeWorld

from client.cohort.site import Site
from client.cohort.site_data import SiteData
from common.learning.config import FoldsConfig, UnlearnConfig
from common.learning.folds.margins import OutOfFold
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.unlearning.base import OnPass, Unlearned, Unlearner, UnlearnSets
from common.learning.unlearning.methods import method_named
from server.rounds.fold_training import Folded

FOLDS = FoldsConfig(targets=3, audit=2)


def scores(site: Site, family: str = "targets") -> OutOfFold | None:
    patients = sorted(site.patients(Subset.TRAIN))
    return SiteData(site.folder).fold_scores.read(family, patients, sorted(site.patients(Subset.CALIBRATION)))  # type: ignore[arg-type]


def weights_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.safetensors") if "models" not in path.parts]


def test_the_first_model_comes_with_fold_scores_and_leaves_no_weights_between_its_steps(
    world: MakeWorld, tmp_path: Path
) -> None:
    coordinator = world()
    number = coordinator.plan("training", folds=FOLDS)
    assert coordinator.carry(number) == "published"
    for site in coordinator.sites.values():
        for family in ("targets", "audit"):
            found = scores(site, family)
            assert found is not None
            assert found.known().all()
    assert weights_of(tmp_path / "server" / "work") == []
    # The coordinator keeps what they cost.
    folded = coordinator.store.journal_body(number, "folds", Folded)
    assert folded is not None
    assert folded.cost["forward_units"] > 0


def test_a_patient_who_revokes_alone_is_led_to_their_own_standing(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = world()
    assert coordinator.carry(coordinator.plan("training", folds=FOLDS)) == "published"
    before = scores(coordinator.sites["north"])
    seen: list[UnlearnSets] = []

    def named(name: str) -> Unlearner:
        def method(
            model: ImageTextModel,
            sets: UnlearnSets,
            config: UnlearnConfig,
            *,
            ranking_weight: float,
            seed: int,
            on_pass: OnPass,
        ) -> Unlearned:
            seen.append(sets)
            unlearner = method_named(name)
            return unlearner(model, sets, config, ranking_weight=ranking_weight, seed=seed, on_pass=on_pass)

        return method

    monkeypatch.setattr("client.cohort.site_unlearning.method_named", named)
    coordinator.revoke()
    coordinator.carry(coordinator.plan(folds=FOLDS, decision=LENIENT, undecided="wait"))
    (sets,) = seen
    assert before is not None
    assert sets.standings is not None
    assert sets.standings.known().tolist() == [True]
    assert np.array_equal(sets.standings.raw[:, 0], before.margins[:, 0])


def test_a_retraining_renews_them_unless_a_due_date_is_near(world: MakeWorld) -> None:
    coordinator = world()
    assert coordinator.carry(coordinator.plan("training", folds=FOLDS)) == "published"
    first = scores(coordinator.sites["south"])
    coordinator.revoke()
    near = coordinator.plan("retraining", folds=FOLDS, due=NOW + timedelta(hours=1), sites=["north"])
    assert coordinator.carry(near) == "published"
    assert ("folds", None) in coordinator.kinds(near)
    kept = scores(coordinator.sites["south"])
    assert first is not None
    assert kept is not None
    assert np.array_equal(first.margins, kept.margins)

    coordinator.announce("north", 0)
    later = coordinator.plan("retraining", folds=FOLDS, due=NOW + timedelta(days=60), sites=["north"])
    assert coordinator.carry(later) == "published"
    renewed = scores(coordinator.sites["south"])
    assert renewed is not None
    assert renewed.known().all()
    assert not np.array_equal(first.margins, renewed.margins)


def test_a_training_that_is_killed_among_the_fold_models_goes_on_from_the_last_round(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = world()
    number = coordinator.plan("training", folds=FOLDS)

    class KilledError(BaseException):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        # The first line that is not about a round of the main model is that of the fold models' first round.
        patch.setattr("server.campaign.running.training.log_round", lambda _: None)
        patch.setattr("server.campaign.running.training.log.info", kill)
        with pytest.raises(KilledError):
            coordinator.carry(number)

    assert coordinator.registry.active() is None
    assert coordinator.carry(number) == "published"
    found = scores(coordinator.sites["north"])
    assert found is not None
    assert found.known().all()
