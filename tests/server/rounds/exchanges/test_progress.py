"""How far an exchange is: written at each reply, read by others, and said in a line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.learning.config import ExperimentConfig, TrainConfig
from common.learning.model.checkpoint import ModelCard
from common.protocol import messages
from common.protocol.rehearsals import REHEARSE
from server.campaign.progress_text import WORDS, describe, headline, span
from server.rounds.exchanges.progress import CONNECT, PROGRESS_FILE, Progress, ProgressFile, read_progress
from server.rounds.federation import Federation
from server.rounds.training import train
from server.settings import GateConfig, PolicyConfig, Terms

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMS = Terms(
    experiment=ExperimentConfig(train=TrainConfig(rounds=5)),
    policy=PolicyConfig(),
    gate=GateConfig(),
)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_every_type_of_message_has_words() -> None:
    kinds = (
        messages.STATUS,
        messages.TRAIN,
        messages.UNLEARN,
        messages.RETAIN,
        REHEARSE,
        messages.EVALUATE,
        messages.ADOPT,
    )
    assert set(WORDS) == {CONNECT, *kinds}


def test_a_line_says_round_who_answered_who_has_not_and_what_is_left(tmp_path: Path) -> None:
    clock = Clock()
    file = ProgressFile(tmp_path, 3, 1, clock)
    file.asked("train", "train", 0, ["north", "south", "west"], 600)
    clock.passes(20)
    file.asked("train", "train", 1, ["north", "south", "west"], 600)
    file.heard("north", fits=True)
    clock.passes(5)
    found = read_progress(tmp_path, 3, 1)
    assert found is not None
    assert describe(found, TERMS, clock()) == (
        "training round 2 of at most 5: 1 of 3 sites answered; waiting for south, west (5 s); at most 75 s left"
    )
    file.heard("west", fits=False)
    found = read_progress(tmp_path, 3, 1)
    assert found is not None
    assert "waiting for south (5 s); left out: west;" in describe(found, TERMS, clock())
    assert headline(found, TERMS) == "training round 2 of at most 5: 1 of 3 sites answered"


def test_the_first_round_says_until_when_sites_are_waited_for(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path, 3, 1, Clock())
    file.asked("train.unlearn", "train.unlearn", 0, ["north"], 900)
    found = read_progress(tmp_path, 3, 1)
    assert found is not None
    assert describe(found, TERMS, NOW) == (
        "unlearning: 0 of 1 sites answered; waiting for north (0 s); nobody is waited for after 12:15:00 UTC"
    )


def test_hospitals_that_are_not_there_are_named(tmp_path: Path) -> None:
    clock = Clock()
    file = ProgressFile(tmp_path, 3, 1, clock)
    file.connecting(["north", "south"], [])
    clock.passes(3)
    file.connecting(["north", "south"], ["south"])
    found = read_progress(tmp_path, 3, 1)
    assert found is not None
    assert found.since == NOW
    assert describe(found, TERMS, clock()) == (
        "waiting for hospitals to connect: 1 of 2 sites online; not there: north"
    )


@pytest.mark.parametrize("content", ["", "{", '{"campaign": 3}', "null"])
def test_a_file_that_cannot_be_read_and_one_of_another_attempt_say_nothing(tmp_path: Path, content: str) -> None:
    ProgressFile(tmp_path, 3, 1, Clock()).connecting(["north"], [])
    assert read_progress(tmp_path, 3, 2) is None
    assert read_progress(tmp_path, 2, 1) is None
    (tmp_path / PROGRESS_FILE).write_text(content)
    assert read_progress(tmp_path, 3, 1) is None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    ProgressFile(tmp_path / "work", 3, 1, Clock()).asked("train", "train", 0, ["north"], 1.0)


def test_a_training_tells_of_each_round_and_each_reply(
    federation_of: Callable[..., tuple[Federation, object]], card: ModelCard, tmp_path: Path
) -> None:
    federation, _ = federation_of(north=3, south=4)
    seen: list[Progress] = []

    class Recorded(ProgressFile):
        def _write(self, progress: Progress) -> None:
            super()._write(progress)
            seen.append(progress)

    federation.watcher = Recorded(tmp_path / "work", 1, 1, lambda: datetime.now(UTC))
    config = TrainConfig(rounds=2, local_epochs=1, batch=2)
    train(federation, card.build().state_dict(), config, card, seed=0, folder=tmp_path, on_round=lambda _: None)
    rounds = [(p.round, len(p.answered)) for p in seen if p.kind == messages.TRAIN]
    assert rounds == [(number, answered) for number in (0, 1) for answered in (0, 1, 2)]
    assert all(p.asked == ("north", "south") for p in seen)
    assert [p.round_seconds is None for p in seen if p.kind == messages.TRAIN] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(("seconds", "text"), [(-3, "0 s"), (119.4, "119 s"), (121, "2 min"), (7300, "2.0 h")])
def test_spans_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text
