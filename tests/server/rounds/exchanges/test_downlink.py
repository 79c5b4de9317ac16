"""Changes instead of models, between real handlers and a federation in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from client.cohort.site import Site
from client.database import migrate, opened
from client.settings import SiteFolder
from common.errors import CheckpointError, UnavailableError
from common.learning.config import (
    CampaignConfig,
    DecisionConfig,
    ExperimentConfig,
    Precision,
    TrainConfig,
    UnlearnConfig,
)
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Subset
from common.protocol.deltas import rounded
from common.protocol.messages import ADOPT, EVALUATE, AdoptRequest, EvaluateRequest, WeightsNote
from common.protocol.wire import pack
from server.campaign.campaign import run_campaign
from server.rounds.aggregation import State, shares
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import average_round, train

CONFIG = TrainConfig(rounds=3, local_epochs=1, batch=4, patience=5)


def with_databases(sites: dict[str, Site]) -> None:
    """As a real hospital's: it keeps what it receives."""
    for site in sites.values():
        with opened(SiteFolder(site.folder).database) as engine:
            migrate(engine)


def rounds(federation: Federation, initial: State, count: int = 3) -> State:
    registered = shares({name: s.retain_studies for name, s in federation.status().items()})
    state = federation.downlink.start(initial)
    for number in range(count):
        state, _ = average_round(federation, "train", state, registered, CONFIG, epochs=1, number=number, seed=1)
    return state


def size_of(state: State) -> int:
    return sum(t.numel() * t.element_size() for t in state.values())


def test_exact_differences_end_in_the_same_bits_as_whole_models(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    initial = card.build().state_dict()
    federation, sites = federation_of(north=3, south=5)
    bare = rounds(federation, initial)
    with_databases(sites)
    lean = rounds(federation, initial)
    assert state_digest(lean) == state_digest(bare)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_ends_near_the_exact_model_with_half_the_bytes(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, precision: Precision
) -> None:
    initial = card.build().state_dict()
    federation, _ = federation_of(north=3, south=5)
    exact = rounds(federation, rounded(initial, precision))
    federation.downlink, federation.meter = Downlink(precision), type(federation.meter)()
    found = rounds(federation, initial)
    moved = sum(float((exact[n] - initial[n]).double().norm()) ** 2 for n in exact) ** 0.5
    apart = sum(float((exact[n] - found[n]).double().norm()) ** 2 for n in exact) ** 0.5
    assert apart < 0.2 * moved
    # Three rounds and two sites, each way.
    assert max(federation.meter.bytes_up, federation.meter.bytes_down) < 0.6 * 3 * 2 * size_of(initial)


def test_a_site_that_has_the_model_is_sent_nothing_of_it(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, sites = federation_of(north=2)
    with_databases(sites)
    state = federation.downlink.start(card.build().state_dict())
    down = []

    for _ in range(2):
        before = federation.meter.bytes_down
        request = EvaluateRequest(purpose="selection", seed=0)
        assert len(list(federation.ask(EVALUATE, request, state, ["north"]))) == 1
        down.append(federation.meter.bytes_down - before)

    assert down[0] >= size_of(state)
    assert down[1] == 0


def test_a_site_that_lost_its_base_is_sent_the_whole_model_once(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, caplog: pytest.LogCaptureFixture
) -> None:
    federation, sites = federation_of(north=3, south=3)
    with_databases(sites)
    initial = card.build().state_dict()
    wanted = rounds(federation, initial, 2)
    registered = shares({"north": 3, "south": 3})
    state = federation.downlink.start(initial)
    state, _ = average_round(federation, "train", state, registered, CONFIG, epochs=1, number=0, seed=1)
    shutil.rmtree(sites["north"].folder / "working")
    state, record = average_round(federation, "train", state, registered, CONFIG, epochs=1, number=1, seed=1)
    assert record.missing == ()
    assert state_digest(state) == state_digest(wanted)
    assert caplog.text.count("north: answered train with error no-base") == 1


def test_a_base_that_was_changed_on_the_disk_is_noticed(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, sites = federation_of(north=3)
    with_databases(sites)
    initial = card.build().state_dict()
    wanted = rounds(federation, initial, 2)
    state = federation.downlink.start(initial)
    state, _ = average_round(federation, "train", state, {"north": 1.0}, CONFIG, epochs=1, number=0, seed=1)
    file = sites["north"].folder / "working" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    state, _ = average_round(federation, "train", state, {"north": 1.0}, CONFIG, epochs=1, number=1, seed=1)
    assert state_digest(state) == state_digest(wanted)


def test_training_that_was_cut_short_goes_on_to_the_same_bits_with_bases(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = federation_of(north=3, south=5)
    with_databases(sites)
    initial = card.build().state_dict()

    def run(folder: Path, config: TrainConfig) -> str:
        done = train(federation, initial, config, card, seed=3, folder=folder, on_round=lambda _: None)
        return state_digest(done.state)

    whole = run(tmp_path / "whole", CONFIG)

    class Cut(BaseException):
        pass

    def cut(record: object) -> None:
        raise Cut

    with pytest.raises(Cut):
        train(federation, initial, CONFIG, card, seed=3, folder=tmp_path / "cut", on_round=cut)
    federation.downlink = Downlink()
    assert run(tmp_path / "cut", CONFIG) == whole


def test_a_campaign_in_half_precision_ends_with_weights_that_every_site_has(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = federation_of(north=5, south=4)
    with_databases(sites)
    federation.downlink = Downlink("fp16")
    parent = rounds(federation, card.build().state_dict(), 1)
    sites["north"].revoke(sorted(sites["north"].patients(Subset.TRAIN))[:2])
    config = ExperimentConfig(
        train=CONFIG,
        unlearn=UnlearnConfig(passes=1),
        campaign=CampaignConfig(retention_rounds=1),
        decision=DecisionConfig(bootstrap=50),
    )
    done = run_campaign(federation, parent, config, journal=MemoryJournal(), folder=tmp_path, on_round=lambda _: None)
    assert state_digest(done.state) != state_digest(parent)
    assert all(state_digest(done.state) in site.received_weights.held() for site in sites.values())


def test_what_is_kept_between_rounds_is_gone_once_a_version_is_adopted(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, sites = federation_of(north=3)
    with_databases(sites)
    federation.downlink = Downlink("fp16")
    state = rounds(federation, card.build().state_dict(), 2)
    working = sites["north"].folder / "working"
    assert {file.name for file in working.iterdir()} == {"weights.safetensors", "errors.safetensors"}
    digest = state_digest(state)
    request = AdoptRequest(version="v1", digest=digest, campaign=1, how="trained")
    assert len(list(federation.exchange(ADOPT, {"north": federation.downlink.whole(request, state)}))) == 1
    assert not working.exists()
    assert sites["north"].received_weights.held() == (digest,)


def frozen(card: ModelCard) -> ModelCard:
    return card.model_copy(update={"model": card.model.model_copy(update={"frozen_text_layers": 1})}).pinned()


def test_frozen_layers_are_neither_trained_nor_sent(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    card = frozen(card)
    federation, sites = federation_of(card, north=3)
    with_databases(sites)
    initial = card.build(7).state_dict()
    names = card.frozen_names()
    federation.downlink = Downlink("fp32", names)
    state = rounds(federation, initial, 2)
    moving = {n: t for n, t in initial.items() if n not in names}
    # NumPy's head for each array is 128 bytes, its entry in a group about as much.
    heads = 256 * len(moving)
    assert heads < size_of(initial) - size_of(moving)
    assert federation.meter.bytes_down <= 2 * (size_of(moving) + heads)
    assert all(torch.equal(state[n], initial[n]) for n in names)
    assert any(not torch.equal(state[n], initial[n]) for n in initial if n not in names)


def test_a_site_with_other_frozen_layers_does_not_take_part(card: ModelCard) -> None:
    card = frozen(card)
    with pytest.raises(CheckpointError, match="not the federation's"):
        card.model_copy(update={"frozen": "0" * 64}).build()
    here = card.build(3).state_dict()
    assert state_digest({name: here[name] for name in card.frozen_names()}) == card.frozen


def test_a_site_refuses_an_instruction_that_names_other_encoders(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], card: ModelCard
) -> None:
    federation, _ = federation_of(card, north=3)
    federation.downlink = Downlink("fp32", frozenset(), ("0" * 64,))
    with pytest.raises(UnavailableError):
        rounds(federation, card.build(7).state_dict(), 1)


def test_a_note_without_encoders_is_written_as_earlier_versions_wrote_it() -> None:
    note = WeightsNote(base="", weights="0" * 64, precision="fp32", line="a")
    assert "encoders" not in str(pack(note)["body"]["json"])
    assert "encoders" in str(pack(note.model_copy(update={"encoders": ("1" * 64,)}))["body"]["json"])
