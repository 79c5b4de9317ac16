"""`train`, `campaign start` and `campaign watch`: what they print while they wait, and when nobody works."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from common.errors import UnavailableError
from common.platform.processes.up_lock import only_one
from server.campaign.context import CoordinatorContext, open_house
from server.cli import app
from server.commands.follow import UP_SECONDS, Follower
from server.rounds.exchanges.progress import ProgressFile
from server.rounds.states import CampaignState
from server.settings import ServerFolder


class Clock:
    """Time passes where somebody waits."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.happens: dict[int, Callable[[], object]] = {}
        self.pauses = 0

    def __call__(self) -> datetime:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.pauses += 1
        self.happens.pop(self.pauses, lambda: None)()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(coordinator: ServerFolder, clock: Clock) -> Iterator[CoordinatorContext]:
    found = open_house(coordinator.root, clock)
    yield found
    found.engine.dispose()


def planned(house: CoordinatorContext) -> int:
    return house.store.plan("training", house.terms.model_dump(mode="json"), parent=None, due=None, reason="asked for")


def follower(house: CoordinatorContext, clock: Clock, *, as_json: bool = False) -> Follower:
    return Follower(house, as_json=as_json, pause=clock.pause, console=Console(stderr=True, force_terminal=False))


def test_train_says_that_no_up_runs_here_and_what_to_type(coordinator: ServerFolder) -> None:
    said = CliRunner().invoke(app, ["train", "--dir", str(coordinator.root)])
    assert said.exit_code == 0
    assert f"no `up` runs here, and it waits for one: fedforget-server up --dir {coordinator.root}" in said.stdout
    CliRunner().invoke(app, ["campaign", "cancel", "1", "--reason", "again", "--dir", str(coordinator.root)])
    with only_one(coordinator.root):
        said = CliRunner().invoke(app, ["train", "--dir", str(coordinator.root), "--json"])
    assert json.loads(said.stdout) == {"number": 2, "state": "planned", "up": True}


def test_following_says_at_once_that_no_up_runs_here_and_ends_after_a_while(
    house: CoordinatorContext, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    number = planned(house)
    begun = clock.now
    with pytest.raises(UnavailableError, match=f"campaign {number} is planned, and no `up` runs here"):
        follower(house, clock).follow(number)
    assert (clock.now - begun).total_seconds() == UP_SECONDS
    first, *more = capsys.readouterr().err.splitlines()
    assert first.startswith(f"12:00:00 campaign {number} planned: no `up` runs here")
    assert first.endswith(f"fedforget-server up --dir {house.folder.root}")
    assert more == []


def test_waiting_for_the_next_campaign_ends_as_well_where_nobody_could_plan_it(
    house: CoordinatorContext, clock: Clock
) -> None:
    with pytest.raises(UnavailableError, match="no campaign is planned yet, and no `up` runs here"):
        follower(house, clock).next_campaign()


def test_an_up_that_does_nothing_is_told_with_the_age_of_its_last_tick(
    house: CoordinatorContext, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    number = planned(house)
    house.folder.tick.touch()
    old = time.time() - 95.0
    os.utime(house.folder.tick.path, (old, old))
    clock.happens[2] = lambda: house.store.end(number, CampaignState.CANCELLED, "enough")
    with only_one(house.folder.root), pytest.raises(UnavailableError, match="is cancelled: enough"):
        follower(house, clock).follow(number)
    assert "planned: the coordinator has done nothing for 9" in capsys.readouterr().err


def test_a_line_is_printed_for_each_change_and_again_after_half_a_minute(
    house: CoordinatorContext, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    number = planned(house)
    attempt = house.store.take_up(number)
    progress = ProgressFile(house.store.work, number, attempt, clock)
    clock.happens = {
        2: lambda: progress.asked("train", "train", 0, ["north", "south"], 600),
        4: lambda: progress.heard("south", fits=True),
        40: lambda: house.store.end(number, CampaignState.CANCELLED, "enough"),
    }
    with only_one(house.folder.root), pytest.raises(UnavailableError):
        follower(house, clock).follow(number)
    lines = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line.partition("; nobody")[0] for line in lines] == [
        "waits for the coordinator to start it",
        "training round 1 of at most 40: 0 of 2 sites answered; waiting for north, south (0 s)",
        "training round 1 of at most 40: 1 of 2 sites answered; waiting for north (2 s)",
        "training round 1 of at most 40: 1 of 2 sites answered; waiting for north (32 s)",
        "ended",
    ]


def test_with_json_events_go_to_standard_error_and_the_result_alone_to_standard_output(
    house: CoordinatorContext, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    number = planned(house)
    clock.happens[2] = lambda: house.store.end(number, CampaignState.CANCELLED, "enough")
    with only_one(house.folder.root), pytest.raises(UnavailableError):
        follower(house, clock, as_json=True).follow(number)
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.err.splitlines()]
    assert [event["state"] for event in events] == ["planned", "cancelled"]
    assert events[0]["text"] == "waits for the coordinator to start it"
    assert json.loads(printed.out)["state"] == "cancelled"


@pytest.mark.parametrize("command", ["show", "list", "watch"])
def test_what_a_site_wrote_gives_the_terminal_no_command_and_no_line_of_its_own(
    coordinator: ServerFolder, house: CoordinatorContext, command: str
) -> None:
    hostile = "no patients\x1b[2J\x1b]0;owned\x07\nresult: published\u202e\x9b31m"
    number = planned(house)
    house.store.journal(number, 1).note("veto", hostile, site="north\x1b[31m")
    house.store.end(number, CampaignState.CANCELLED, hostile)
    arguments = [str(number)] if command == "show" else []
    said = CliRunner().invoke(app, ["campaign", command, *arguments, "--dir", str(coordinator.root)])

    for output in (said.stdout_bytes, said.stderr_bytes):
        assert not [
            mark for mark in (b"\x1b", b"\x07", b"\xe2\x80\xae", b"\xc2\x9b", b"\nresult: pub") if mark in output
        ]

    if command == "show":
        assert b"\\x1b[2J" in said.stdout_bytes
