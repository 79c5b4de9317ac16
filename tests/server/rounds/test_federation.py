from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from flwr.app import Message, RecordDict

from client.app import app
from client.cohort.site import Site
from client.settings import SiteFolder
from common.errors import ConfigError, UnavailableError, WireError
from common.learning.config import CampaignConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard, load_checkpoint, state_digest
from common.learning.records import Subset
from common.protocol.messages import TRAIN, TrainReply, TrainRequest
from common.protocol.wire import pack, unpack, weights_of
from server.campaign.campaign import collect
from server.rounds import training
from server.rounds.aggregation import State, shares
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import average_round, train
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import Collected, Task
from simulations.run.local_grid import LocalGrid

CONFIG = TrainConfig(rounds=2, local_epochs=1, batch=4, patience=5)


def _aggregate(
    federation: Federation, parent: State, collected: Collected, config: ExperimentConfig, folder: Path
) -> State:
    return at_sites(Task(federation, parent, collected, config, MemoryJournal(), folder, Meter()))


def test_sites_are_known_by_their_own_names(federation_of: Callable[..., tuple[Federation, dict[str, Site]]]) -> None:
    federation, _ = federation_of(south=3, north=2)
    assert federation.sites == ("north", "south")
    assert {name: s.retain_studies for name, s in federation.status().items()} == {"north": 2, "south": 3}


def test_too_few_sites_are_not_waited_for_for_ever() -> None:
    with pytest.raises(UnavailableError, match="0 of 1 sites"):
        connect(LocalGrid(app, {}), 1, timeout=-1.0, wait=lambda _: None)


def test_two_nodes_must_not_serve_one_site(federation_of: Callable[..., tuple[Federation, dict[str, Site]]]) -> None:
    _, sites = federation_of(north=2)
    folder = {"site-dir": str(sites["north"].folder)}
    with pytest.raises(WireError, match="2 nodes serve 1 sites"):
        connect(LocalGrid(app, {1: folder, 2: folder}), 2)


def test_no_answer_from_any_site_is_an_error(federation_of: Callable[..., tuple[Federation, dict[str, Site]]]) -> None:
    federation, _ = federation_of(north=2)
    with pytest.raises(UnavailableError, match="no site answered query"):
        list(federation.exchange("query.nonsense", {"north": RecordDict()}))


def test_a_round_is_the_mean_of_the_sites_weighted_by_their_studies(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, sites = federation_of(north=2, south=6)
    state = card.build().state_dict()
    request = TrainRequest(config=CONFIG, epochs=1, round=0, seed=0)
    alone = {}
    for name, site in sites.items():
        model, _ = site.train(state, request)
        alone[name] = {n: t.clone() for n, t in model.state_dict().items()}

    registered = shares({"north": 2, "south": 6})
    found, record = average_round(federation, TRAIN, state, registered, CONFIG, epochs=1, number=0, seed=0)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, 0.25 * alone["north"][name] + 0.75 * alone["south"][name])
    assert record.selection is not None
    assert federation.meter.forward_units == 3 * 8 + 2 * 2
    assert federation.meter.bytes_up == pytest.approx(federation.meter.bytes_down, rel=0.01)


def test_an_interrupted_training_goes_on_to_the_same_bits(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(north=3, south=4)
    initial = card.build().state_dict()
    whole = train(federation, initial, CONFIG, card, seed=1, folder=tmp_path / "a", on_round=lambda _: None)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(federation, initial, CONFIG, card, seed=1, folder=tmp_path / "b", on_round=stop)
    again = train(federation, initial, CONFIG, card, seed=1, folder=tmp_path / "b", on_round=lambda _: None)
    assert state_digest(again.state) == state_digest(whole.state)
    assert [r.train_loss for r in again.rounds] == [r.train_loss for r in whole.rounds]


def test_untrained_weights_are_never_the_result_even_if_training_only_raises_the_loss(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(north=4, south=4)
    ruinous = CONFIG.model_copy(update={"lr": 3.0})
    initial = card.build().state_dict()
    trained = train(federation, initial, ruinous, card, seed=0, folder=tmp_path, on_round=lambda _: None)
    losses = [record.validation_loss for record in trained.rounds if record.validation_loss is not None]
    assert len(losses) == len(trained.rounds)
    assert min(losses) == losses[0]
    assert [record.round for record in trained.rounds if record.kept] == [1 if losses[1] <= losses[2] else 2]
    assert state_digest(trained.state) != state_digest(initial)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_model_of_the_lowest_validation_loss_is_kept_or_that_of_the_last_round(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]],
    card: ModelCard,
    tmp_path: Path,
    keep: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation, _ = federation_of(north=3, south=4)
    losses = iter([2.0, 1.0, 3.0])
    monkeypatch.setattr(training, "agreed_loss_of", lambda *_: next(losses))
    config = TrainConfig.model_validate({**CONFIG.model_dump(), "keep": keep})
    found = train(federation, card.build().state_dict(), config, card, seed=0, folder=tmp_path, on_round=lambda _: None)
    assert [record.round for record in found.rounds if record.kept] == [{"best": 1, "last": 2}[keep]]
    last, _ = load_checkpoint(tmp_path / "last", card)
    assert (state_digest(found.state) == state_digest(last)) == (keep == "last")


def test_a_site_with_nobody_left_to_train_on_does_not_stop_the_others(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = federation_of(north=2, south=4)
    sites["north"].revoke(sites["north"].patients(Subset.TRAIN))
    found = train(federation, card.build().state_dict(), CONFIG, card, seed=0, folder=tmp_path, on_round=lambda _: None)
    assert len(found.rounds) == 3


def test_a_site_that_answers_with_an_error_is_left_out_of_the_round(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, sites = federation_of(north=2, south=4)
    state = card.build().state_dict()
    registered = shares({name: s.retain_studies for name, s in federation.status().items()})
    sites["north"].revoke([min(sites["north"].cohort.patients)])
    SiteFolder(sites["north"].folder).tombstones.write_text("{\n")
    found, _ = average_round(federation, TRAIN, state, registered, CONFIG, epochs=1, number=0, seed=0)
    assert set(found) == set(state)


@pytest.mark.parametrize("how", ["replace", "relay", "scaled", "naive"])
def test_aggregation_publishes_what_it_says_of_an_unlearned_model(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path, how: str
) -> None:
    federation, sites = federation_of(north=3, south=5)
    sites["north"].revoke(sorted(sites["north"].patients(Subset.TRAIN))[:1])
    parent = card.build().state_dict()
    config = ExperimentConfig(
        train=CONFIG,
        unlearn=UnlearnConfig(passes=1, method="forget_mi_paper", noise="none"),
        campaign=CampaignConfig.model_validate({"aggregation": how}),
    )
    collected = collect(federation)
    assert collected.forgetting == ("north",)
    found = _aggregate(federation, parent, collected, config, tmp_path)
    replaced = config.model_copy(update={"campaign": CampaignConfig()})
    alone = _aggregate(federation, parent, collected, replaced, tmp_path)
    same = all(torch.allclose(found[n], alone[n], atol=1e-6) for n in parent)
    assert same == (how != "naive")
    assert any(not torch.equal(found[n], parent[n]) for n in parent)


def test_replace_takes_one_forgetting_site(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(north=2, south=2)
    both = Collected(forgetting=("north", "south"), retain_studies={"north": 2, "south": 2})
    config = ExperimentConfig(campaign=CampaignConfig(aggregation="replace"))
    with pytest.raises(ConfigError, match="replace takes one forgetting site"):
        _aggregate(federation, card.build().state_dict(), both, config, tmp_path)


def test_nothing_is_published_when_a_site_cannot_unlearn(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(north=2)
    one = Collected(forgetting=("north",), retain_studies={"north": 2})
    with pytest.raises((WireError, UnavailableError)):
        _aggregate(federation, card.build().state_dict(), one, ExperimentConfig(), tmp_path)


def test_weights_survive_the_way_to_a_site_and_back(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, _ = federation_of(north=2)
    request = pack(TrainRequest(config=CONFIG, epochs=0, round=0, seed=0), state := card.build(3).state_dict())
    ((name, reply),) = federation.exchange(TRAIN, {"north": request})
    assert name == unpack(reply, TrainReply).site == "north"
    assert state_digest(weights_of(reply)) == state_digest(state)


def test_a_silent_site_costs_two_deadlines_of_a_run_and_not_one_in_each_round(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]],
) -> None:
    federation, _ = federation_of(north=2, south=2)
    pull = type(federation.grid).pull_messages
    silent = federation.nodes["north"]

    class Silent(type(federation.grid)):  # type: ignore[misc]
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return [m for m in pull(self, message_ids) if m.metadata.src_node_id != silent]

    federation.grid.__class__ = Silent
    now = [0.0]
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += 100.0

    federation.clock = lambda: now[0]
    federation.wait = wait
    for answered in (["south"], ["south"], ["south"]):
        assert sorted(federation.status(deadline=150.0)) == answered
    assert len(waits) == 4, "two looks in each of the first two exchanges, none in the third"
