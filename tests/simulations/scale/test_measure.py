"""A federation of two made-up hospitals, its server here and its hospitals in a process of their own."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import pytest
from flwr.app import Message

from client.app import app
from client.settings import SiteFolder
from common.errors import UnavailableError
from common.protocol.messages import STATUS, StatusReply, StatusRequest
from common.protocol.wire import pack, unpack
from common.settings import override, parse
from simulations.run.local_grid import LocalGrid
from simulations.run.prepare import Prepared, prepare
from simulations.scale.hospitals import PipedGrid, answer
from simulations.scale.measure import Order, measure
from simulations.scale.result import Size
from simulations.scale.settings import ScaleConfig

TINY = [
    "sizes=[2]", "rounds=2", "run.forget=2", "run.hospitals.sites=2", "run.hospitals.patients=10",
    "run.hospitals.image_size=32", "run.experiment.data.image_size=32", "run.experiment.data.max_tokens=16",
    "run.experiment.data.split={validation = 0.1, calibration = 0.1, audit = 0.1, test = 0.1}",
    "run.experiment.model={width = 4, embedding = 8, text_hidden = 16, text_heads = 2, text_layers = 1}",
    "run.experiment.train.local_epochs=1", "run.experiment.unlearn.passes=1", "run.experiment.decision.bootstrap=50",
]  # fmt: skip


@pytest.fixture(scope="module")
def config() -> ScaleConfig:
    return parse(ScaleConfig, override({}, TINY), "test")


@pytest.fixture(scope="module")
def prepared(config: ScaleConfig, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(config.run, tmp_path_factory.mktemp("world"), lambda *_: None)


def folders(prepared: Prepared) -> dict[int, Path]:
    return {node: prepared.site_folder(name) for node, name in enumerate(prepared.sites, start=1)}


@pytest.fixture(scope="module")
def answered() -> list[int]:
    return []


@pytest.fixture(scope="module")
def order(config: ScaleConfig, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Order:
    forget = {1: prepared.forget["site-1"]}
    out = tmp_path_factory.mktemp("server")
    return Order(config, prepared.card, folders(prepared), forget, out, "digest", "2 cores", {})


@pytest.fixture(scope="module")
def found(order: Order, answered: list[int]) -> Size:
    return measure(order, answered.append)


def test_every_message_is_counted_and_progress_ends_with_the_last(
    found: Size, order: Order, answered: list[int]
) -> None:
    assert answered == list(range(1, order.messages + 1))
    assert {name: stage.messages for name, stage in found.stages.items()} == {
        "first round": 2,
        "round": 2,
        "audit": 2,
        "unlearning": 3,
        "retention": 4,
        "final audit": 2,
    }


def test_bytes_are_those_of_all_weights_that_passed(found: Size) -> None:
    weights = 4 * found.parameters
    stages = {str(name): stage for name, stage in found.stages.items()}

    for name, up, down in (("round", 2, 2), ("audit", 0, 2), ("unlearning", 1, 1), ("retention", 2, 4)):
        stage = stages[name]
        assert up * weights <= stage.up < up * weights + 80_000
        assert down * weights <= stage.down < down * weights + 80_000


def test_the_patients_revoke_after_the_training_and_are_forgotten(found: Size, order: Order) -> None:
    assert found.forgotten == len(order.forget[1]) == 2
    assert SiteFolder(order.folders[1]).tombstones.exists()
    assert not SiteFolder(order.folders[2]).tombstones.exists()
    assert found.decision in {"accepted", "inconclusive", "rejected"}


def test_work_of_hospitals_and_server_is_told_apart(found: Size) -> None:
    for stage in found.stages.values():
        assert 0 < stage.slowest < stage.hospitals
        assert stage.server > 0
        assert stage.at_once == stage.server + stage.slowest

    assert found.memory
    assert found.peak is not None


def test_a_message_is_sent_when_its_reply_is_wanted_so_that_none_is_held(prepared: Prepared) -> None:
    ours, theirs = Pipe()
    configs = {node: {"site-dir": str(folder)} for node, folder in folders(prepared).items()}
    revoked: list[str] = []
    serving = Thread(target=answer, args=(theirs, LocalGrid(app, configs), lambda: revoked.append("site-1")))
    serving.start()
    grid = PipedGrid(ours, 2, lambda _: None)
    ids = list(grid.push_messages([Message(pack(StatusRequest()), node, STATUS) for node in (1, 2)]))
    assert grid.traffic.messages == 0
    (reply,) = grid.pull_messages([ids[1]])
    assert grid.traffic.messages == 1
    assert unpack(reply.content, StatusReply).site == "site-2"
    assert reply.metadata.reply_to_message_id == ids[1]
    assert list(grid.pull_messages([ids[1]])) == []
    grid.revoke()
    assert revoked == ["site-1"]
    ours.close()
    serving.join()
    with pytest.raises(UnavailableError, match="ended"):
        grid.pull_messages([ids[0]])
