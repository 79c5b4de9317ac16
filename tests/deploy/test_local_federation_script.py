"""`deploy/local-federation` without its federation: which processes it may end, and whom it calls connected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from common.platform.settings_file import set_values
from server.settings import ServerFolder, ServerSettings

SCRIPT = Path(__file__).parents[2] / "deploy" / "local-federation"
WAIT = "import sys; print('runs', flush=True); sys.stdin.read()"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("local_federation", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)

    return module


@pytest.fixture
def start() -> Iterator[Start]:
    """Processes with arguments of our choice, which end with the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", WAIT, *map(str, arguments)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd)
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        running.append(process)

        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def remember(script: ModuleType, root: Path, *processes: subprocess.Popen[str]) -> None:
    (root / "pids").write_text("".join(f"{process.pid}\n" for process in processes))
    births = {process.pid: script.born(process.pid) for process in processes}
    (root / "births").write_text(json.dumps(births))


def test_stop_ends_what_it_started_and_nothing_that_has_taken_its_number(
    script: ModuleType, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = start("up", "--dir", tmp_path / "server")
    typed_shorter = start("up", "--dir", "north", cwd=tmp_path)
    another_folder = start("up", "--dir", tmp_path.parent / "other" / "server")
    another_program = start("down")
    remember(script, tmp_path, ours, typed_shorter, another_folder, another_program)
    monkeypatch.setattr(script.time, "sleep", lambda _: [process.poll() for process in (ours, typed_shorter)])
    script.stop(tmp_path)
    # A process that is ending has no command line any more, a moment before it can be waited for.
    assert [ours.wait(10), typed_shorter.wait(10)] == [-15, -15]
    assert [another_folder.poll(), another_program.poll()] == [None, None]
    assert not (tmp_path / "pids").exists()


def test_a_process_with_the_same_command_and_another_beginning_is_left_alone(
    script: ModuleType, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = start("up", "--dir", tmp_path / "server")
    (tmp_path / "pids").write_text(f"{later.pid}\n")
    (tmp_path / "births").write_text(json.dumps({later.pid: "1"}))
    assert script.running(tmp_path) == []
    script.stop(tmp_path)
    assert later.poll() is None
    assert capsys.readouterr().out == "nothing was running\n"


@pytest.mark.parametrize("content", ["", "many\n", "999999999\n", "1\n", "{own}\n"])
def test_a_file_of_numbers_that_are_nobodys_stops_nobody(script: ModuleType, tmp_path: Path, content: str) -> None:
    (tmp_path / "pids").write_text(content.format(own=os.getpid()))
    script.stop(tmp_path)
    assert not (tmp_path / "pids").exists()


def test_only_a_heartbeat_of_after_the_start_counts_as_connected(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = datetime.now(UTC)
    seen = {name: begun - timedelta(minutes=5) for name in script.NAMES}

    def listing(*_: object, **__: object) -> Any:
        rows = [{"name": name, "seen": moment.isoformat()} for name, moment in seen.items()]
        return SimpleNamespace(returncode=0, stdout=json.dumps(rows))

    def hear(_: float) -> None:
        late = [name for name in script.NAMES if seen[name] < begun]
        seen[late[0]] = begun + timedelta(seconds=1)

    monkeypatch.setattr(script.subprocess, "run", listing)
    monkeypatch.setattr(script.time, "sleep", hear)
    script.wait_connected(tmp_path, {}, begun)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" to connect")[0] for line in lines[:3]] == [
        "waiting for north, south, west",
        "waiting for south, west",
        "waiting for west",
    ]
    assert lines[3].startswith("all 3 hospitals are connected")


def test_an_up_that_ends_is_told_at_once_with_its_last_lines(script: ModuleType, start: Start, tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("one\nerror: port 1 (gateway): another process listens there\n")
    ended = SimpleNamespace(poll=lambda: 5, returncode=5)
    with pytest.raises(SystemExit, match=r"another process listens there\nserver: `up` ended with 5"):
        script.wait_connected(tmp_path, {"server": ended}, datetime.now(UTC))


def test_its_settings_are_valid(script: ModuleType, coordinator: ServerFolder) -> None:
    values = {name: str(value) for name, value in script.SETTINGS.items()}
    set_values(coordinator.settings_file, ServerSettings, values)
    assert coordinator.settings().experiment.decision.auc_margin == 0.35
    assert coordinator.settings().classes == ("0", "1", "2", "3")
