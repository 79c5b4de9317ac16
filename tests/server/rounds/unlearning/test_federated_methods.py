"""Methods of a whole federation, on real sites in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import ConfigError, UnavailableError
from common.learning.config import CampaignConfig, DecisionConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.learning.device import derive_seed
from common.learning.model.checkpoint import ModelCard, check_state, state_digest
from common.learning.records import Subset
from common.protocol.messages import RETAIN
from server.campaign.campaign import collect, run_campaign
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import Round, average_round, train
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import Past, Task, retention_config
from server.rounds.unlearning.fed_eraser import Rescaled, replay
from server.rounds.unlearning.methods import FEDERATED, campaign_method, method_names
from server.rounds.unlearning.negation import negated
from server.rounds.unlearning.pga import from_others_mean
from server.rounds.unlearning.retrain import retrain

SEED = 5
EXPERIMENT = ExperimentConfig(
    train=TrainConfig(rounds=3, local_epochs=1, batch=4, patience=5, keep_norms=True),
    unlearn=UnlearnConfig(passes=2, batch=4, retain_batch=4, tolerance=0.0),
    campaign=CampaignConfig(retention_rounds=1),
    decision=DecisionConfig(bootstrap=50),
    seed=SEED,
)
World = tuple[Federation, dict[str, Any]]


def experiment(method: str, **tables: dict[str, object]) -> ExperimentConfig:
    unlearn = UnlearnConfig.model_validate({**EXPERIMENT.unlearn.model_dump(), "method": method, **tables})
    return EXPERIMENT.model_copy(update={"unlearn": unlearn})


def revoke(sites: dict[str, Any], *names: str) -> None:
    for name in names:
        sites[name].revoke(sorted(sites[name].patients(Subset.TRAIN))[:1])


def task_of(federation: Federation, parent: State, config: ExperimentConfig, folder: Path, past: Past | None) -> Task:
    return Task(federation, parent, collect(federation), config, MemoryJournal(), folder, Meter(), past=past)


@pytest.fixture
def world(federation_of: Callable[..., World]) -> World:
    return federation_of(north=3, south=5)


@pytest.fixture
def trained(world: World, card: ModelCard, tmp_path: Path) -> tuple[State, Past]:
    initial = card.build(1).state_dict()
    done = train(
        world[0], initial, EXPERIMENT.train, card, seed=SEED, folder=tmp_path / "train", on_round=lambda _: None
    )
    return done.state, Past(card, initial, done.rounds)


@pytest.mark.parametrize("name", [name for name in method_names() if name != "exact"])
def test_every_method_runs_in_a_campaign(
    name: str, world: World, trained: tuple[State, Past], card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = world
    revoke(sites, "north")
    parent, past = trained
    rounds: list[Round] = []
    done = run_campaign(
        federation, parent, experiment(name), journal=MemoryJournal(), folder=tmp_path / name,
        on_round=rounds.append, past=past,
    )  # fmt: skip
    check_state(done.state, parent, where=name)
    assert state_digest(done.state) != state_digest(parent)
    assert (done.unlearn_cost.forward_units > 0) == (name != "not")
    assert done.retain_cost.forward_units > 0
    assert done.collected.forgetting == ("north",)
    assert [r.phase for r in rounds] == ["unlearn", "retain", "retain"]
    assert done.decision.outcome in {"accepted", "rejected", "inconclusive"}


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        campaign_method("os.system")
    assert campaign_method("scrub") is at_sites


def test_negation_turns_the_first_layer_of_each_encoder_and_nothing_else() -> None:
    one = torch.ones(2, 2)
    state = {
        "image_encoder.first.weight": one,
        "image_encoder.first.bias": one[0],
        "image_encoder.second.weight": one,
        "text_encoder.embeddings.weight": one,
        "text_encoder.layer.weight": one,
        "classifiers.weight": one,
    }
    turned = {n for n, t in negated(state).items() if (t < 0).any()}
    assert turned == {"image_encoder.first.weight", "image_encoder.first.bias", "text_encoder.embeddings.weight"}
    assert {n for n, t in negated(state, {"text_encoder.embeddings.weight"}).items() if (t < 0).any()} == {
        "image_encoder.first.weight", "image_encoder.first.bias", "text_encoder.layer.weight",
    }  # fmt: skip
    assert all(torch.equal(t, state[n]) for n, t in negated(negated(state)).items())


def test_a_step_is_rescaled_and_whole_numbers_are_as_they_are_after() -> None:
    before = {"w": torch.tensor([1.0, 1.0]), "n": torch.tensor(3)}
    after = {"w": torch.tensor([4.0, 5.0]), "n": torch.tensor(9)}
    # The step (3, 4) is 5 long; of length 10 it is (6, 8).
    found = Rescaled(before, after, 10 / 5)
    assert found["w"].tolist() == [7.0, 9.0]
    assert found["n"].item() == 9


def test_replaying_all_rounds_without_anybody_to_forget_leads_to_the_same_model(
    world: World, trained: tuple[State, Past], tmp_path: Path
) -> None:
    parent, past = trained
    config = experiment("fed_eraser", fed_eraser={"interval": 1, "epochs": EXPERIMENT.train.local_epochs})
    task = task_of(world[0], parent, config, tmp_path, past)
    found = replay(task)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, parent[name], rtol=1e-4, atol=1e-5)
    kept = next(r.round for r in past.rounds if r.kept)
    assert kept > 0
    assert task.meter.forward_units > 0


def test_a_replayed_step_is_as_long_as_it_was_then(
    federation_of: Callable[..., World], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(alone=4)
    initial = card.build(1).state_dict()
    rounds = (Round(phase="train", round=0, norms={"alone": 0.5}), Round(phase="train", round=1, kept=True))
    found = replay(task_of(federation, initial, experiment("fed_eraser"), tmp_path, Past(card, initial, rounds)))
    moved = sum(float((found[n] - t).double().square().sum()) for n, t in initial.items()) ** 0.5
    assert moved == pytest.approx(0.5, rel=1e-3)


def test_replay_takes_every_so_manieth_round_and_asks_no_hospital_for_revoked_patients(
    world: World, trained: tuple[State, Past], tmp_path: Path
) -> None:
    federation, sites = world
    revoke(sites, "north")
    parent, past = trained
    rounds = (*(Round(phase="train", round=k, norms={"north": 1.0, "south": 1.0}) for k in range(5)),
              Round(phase="train", round=5, kept=True))  # fmt: skip
    config = experiment("fed_eraser", fed_eraser={"interval": 2, "epochs": 1})
    task = task_of(federation, parent, config, tmp_path, Past(past.card, past.initial, rounds))
    replay(task)
    # Rounds 0, 2 and 4, over 2 and 5 patients; every site also scores the received model on its 2 validation
    # patients, and the one that forgets on the patient and 2 calibration patients.
    assert task.meter.forward_units == 3 * ((2 + 5) * 3 + 2 * 2 + 1 + 2)


def test_without_norms_or_a_past_there_is_nothing_to_replay(
    world: World, trained: tuple[State, Past], tmp_path: Path
) -> None:
    parent, past = trained
    bare = Past(past.card, past.initial, tuple(r.model_copy(update={"norms": {}}) for r in past.rounds))
    with pytest.raises(ConfigError, match="keep_norms"):
        replay(task_of(world[0], parent, experiment("fed_eraser"), tmp_path, bare))
    for name in ("fed_eraser", "retrain"):
        with pytest.raises(ConfigError, match="only a simulation keeps"):
            FEDERATED[name](task_of(world[0], parent, experiment(name), tmp_path, None))


def test_pga_starts_from_what_the_others_learn_and_with_no_room_stays_there(
    world: World, trained: tuple[State, Past], tmp_path: Path
) -> None:
    federation, sites = world
    revoke(sites, "north")
    config = experiment("pga", pga={"radius": 0.0})
    parent, _ = trained
    found = from_others_mean(task_of(federation, parent, config, tmp_path, None))
    reference, _ = average_round(
        federation, RETAIN, parent, {"south": 5 / 7}, retention_config(config), epochs=1, number=-1, seed=SEED
    )
    assert state_digest(found) == state_digest(reference) != state_digest(parent)


def test_pga_needs_a_site_that_forgets_nobody(world: World, trained: tuple[State, Past], tmp_path: Path) -> None:
    federation, sites = world
    revoke(sites, "north", "south")
    with pytest.raises(UnavailableError, match="no site to take its reference from"):
        from_others_mean(task_of(federation, trained[0], experiment("pga"), tmp_path, None))


def test_retraining_is_the_same_training_without_the_revoked_patients(
    world: World, trained: tuple[State, Past], card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = world
    revoke(sites, "north")
    parent, past = trained
    task = task_of(federation, parent, experiment("retrain"), tmp_path / "a", past)
    found = retrain(task)
    federation.meter = Meter()
    again = train(
        federation, past.initial, EXPERIMENT.train, card, seed=derive_seed(SEED, "retrained") % 2**31,
        folder=tmp_path / "b", on_round=lambda _: None,
    )  # fmt: skip
    assert state_digest(found) == state_digest(again.state) != state_digest(parent)
    assert task.meter.forward_units == federation.meter.forward_units > 0


def test_an_orthogonal_retention_round_takes_no_tensor_back_along_the_unlearning_step(
    world: World, trained: tuple[State, Past], tmp_path: Path
) -> None:
    federation, sites = world
    revoke(sites, "north")
    parent, past = trained

    def after(name: str, **campaign: object) -> State:
        config = experiment("forget_mi_calibrated")
        config = config.model_copy(update={"campaign": config.campaign.model_copy(update=campaign)})
        return run_campaign(
            federation, parent, config, journal=MemoryJournal(), folder=tmp_path / name, on_round=lambda _: None,
            past=past,
        ).state  # fmt: skip

    unlearned = after("none", retention_rounds=0)
    plain = after("plain")
    bent = after("bent", retention_orthogonal=True)
    moved = {name: (tensor - parent[name]).double() for name, tensor in unlearned.items()}
    back = {name: float(((plain[name] - unlearned[name]) * step).sum()) < 0 for name, step in moved.items()}
    assert any(back.values())

    for name, step in moved.items():
        if back[name]:
            # Weights are rounded to 24 bits.
            rounding = 1e-6 * float(bent[name].double().norm() * step.norm())
            assert abs(float(((bent[name] - unlearned[name]) * step).sum())) <= rounding
        else:
            assert torch.equal(bent[name], plain[name])
