"""The SuperNode's pauses: short while hospitals wait for each other, Flower's own while nothing happens."""

from __future__ import annotations

import inspect
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from flwr.supernode import start_client_internal

from client.runtime.prompt_supernode import ANSWER_PAUSE, FOR_A_MESSAGE, FOR_AN_ANSWER, SHORTEST, Pauses, hasten
from client.runtime.supernode import supernode_argv
from client.settings import SiteFolder, SiteSettings
from common.errors import FedForgetError
from common.platform.processes.flower import environment


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_after_an_answer_the_next_message_is_looked_for_at_once_and_then_ever_more_rarely() -> None:
    clock = Clock()
    pauses = Pauses(clock, clock.wait)
    pauses.sleep(FOR_AN_ANSWER)
    answered = clock.now
    while clock.now < answered + 60:
        pauses.sleep(FOR_A_MESSAGE)

    _, *pauses_made = clock.pauses
    assert pauses_made[0] == SHORTEST
    assert pauses_made == sorted(pauses_made)
    assert pauses_made[-1] == FOR_A_MESSAGE
    # Flower asks 20 times a minute; a step that takes a minute is asked for a few times more.
    assert len(pauses_made) < 40


def test_an_idle_hospital_asks_as_rarely_as_flowers() -> None:
    clock = Clock()
    pauses = Pauses(clock, clock.wait)
    pauses.sleep(FOR_A_MESSAGE)
    assert clock.pauses == [FOR_A_MESSAGE]


def test_the_answer_of_the_clientapp_is_looked_for_often() -> None:
    clock = Clock()
    pauses = Pauses(clock, clock.wait)
    pauses.sleep(FOR_AN_ANSWER)
    assert clock.pauses == [ANSWER_PAUSE]


def test_the_installed_flower_pauses_as_the_one_that_was_measured() -> None:
    source = inspect.getsource(start_client_internal)
    used = {line.strip() for line in source.splitlines() if "time." in line and not line.lstrip().startswith("#")}
    assert {line for line in used if line.startswith("time.")} == {
        f"time.sleep({FOR_A_MESSAGE})",
        f"time.sleep({FOR_AN_ANSWER})",
    }


def test_a_flower_without_this_loop_is_not_changed() -> None:
    with pytest.raises(FedForgetError, match="needs flwr"):
        hasten(ModuleType("loop"), Pauses())


def test_the_options_are_those_of_the_installed_flower(tmp_path: Path) -> None:
    settings = SiteSettings(name="north", gateway="localhost:1", coordination="localhost:2", ca_fingerprint="-")
    done = subprocess.run(
        [*supernode_argv(SiteFolder(tmp_path), settings), "--made-up"],
        env={**os.environ, **environment(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith("error: unrecognized arguments: --made-up")
