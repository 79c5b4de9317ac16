"""The supervisor, with real processes that crash, hang, ignore signals and leave children behind."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.platform.processes.supervisor import Backoff, Child, Supervisor

QUICK = Backoff(first=0.05, most=0.2, steady=0.5)
SLEEP = "import time; print('hello', flush=True); time.sleep(60)"


@dataclass
class Recorded:
    """Keeps what a supervisor says, and lets a test wait for it."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def output(self, process: str, text: str) -> None:
        self._add(process, "output", text)

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        assert level in {"INFO", "ERROR"}
        self._add(process, event, message)

    def _add(self, *line: str) -> None:
        with self.changed:
            self.lines.append((line[0], line[1], line[2]))
            self.changed.notify_all()

    def of(self, process: str, event: str) -> list[str]:
        return [message for name, kind, message in self.lines if (name, kind) == (process, event)]

    def wait(self, process: str, event: str, count: int = 1, seconds: float = 10.0) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.of(process, event)) >= count, seconds), self.lines
        return self.of(process, event)


def child(name: str, script: str, **more: object) -> Child:
    argv = (sys.executable, "-c", script)
    return Child(name, argv, dict(os.environ), **{"settle": 0.05, **more})  # type: ignore[arg-type] # fields by name


Start = Callable[[Sequence[Child]], tuple[Supervisor, Recorded, threading.Thread]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[tuple[Supervisor, threading.Thread]] = []

    def begin(children: Sequence[Child]) -> tuple[Supervisor, Recorded, threading.Thread]:
        log = Recorded()
        supervisor = Supervisor(children, log, rng=random.Random(0), backoff=QUICK)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        running.append((supervisor, thread))

        return supervisor, log, thread

    yield begin
    for supervisor, thread in running:
        supervisor.stop()
        thread.join(15)
        assert not thread.is_alive()


def pid_of(supervisor: Supervisor, name: str) -> int:
    guard = next(status.pid for status in supervisor.statuses() if status.name == name)
    assert guard is not None
    (command,) = psutil.Process(guard).children()
    return command.pid


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_crashes_is_started_again(start: Start) -> None:
    supervisor, log, _ = start([child("crash", "import sys; print('x', flush=True); sys.exit(3)")])
    ended = log.wait("crash", "ended", 3)
    assert all(message.startswith("ended with 3, restarted in ") for message in ended)
    assert log.of("crash", "output")[:2] == ["x", "x"]
    assert supervisor.statuses()[0].restarts >= 3


def test_why_a_child_ends_again_and_again_is_said_once_for_each_reason(start: Start) -> None:
    reasons = iter(["the clock is off", "the clock is off", None, "no name"])

    def explain() -> str | None:
        return next(reasons, "no name")

    _, log, _ = start([child("node", "pass", explain=explain), child("other", SLEEP)])
    assert log.wait("node", "explained", 2) == ["the clock is off", "no name"]
    assert len(log.wait("node", "ended", 6)) >= 6
    assert log.of("node", "explained") == ["the clock is off", "no name"]
    assert log.of("other", "ended") == []


def test_a_killed_child_is_started_again_while_the_others_stay(start: Start) -> None:
    supervisor, log, _ = start([child("a", SLEEP), child("b", SLEEP)])
    log.wait("up", "ready")
    before = pid_of(supervisor, "b")
    os.kill(pid_of(supervisor, "a"), signal.SIGKILL)
    log.wait("a", "up", 2)
    assert log.of("a", "ended")[0].startswith("ended with 137")
    assert pid_of(supervisor, "b") == before


def test_the_next_child_waits_until_the_one_before_is_ready(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    _, log, _ = start([child("first", SLEEP, ready=mark.exists), child("second", SLEEP)])
    log.wait("first", "output")
    assert log.of("second", "started") == []
    mark.touch()
    assert log.wait("up", "ready") == ["ready: first, second"]
    kinds = [line[:2] for line in log.lines]
    assert kinds.index(("first", "up")) < kinds.index(("second", "started"))


def test_a_child_that_never_gets_ready_holds_up_the_others_only_for_a_while(start: Start) -> None:
    _, log, _ = start([child("first", SLEEP, ready=lambda: False, ready_within=0.3), child("second", SLEEP)])
    log.wait("second", "up")
    assert log.of("first", "up") == log.of("up", "ready") == []


def test_children_are_stopped_in_reverse_order(start: Start) -> None:
    supervisor, log, thread = start([child(name, SLEEP) for name in "abc"])
    log.wait("up", "ready")
    supervisor.stop()
    thread.join(10)
    assert [name for name, kind, _ in log.lines if kind == "stopped"] == ["c", "b", "a"]
    assert {status.state for status in supervisor.statuses()} == {"stopped"}


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace_with_what_it_started(start: Start) -> None:
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    supervisor, log, thread = start([child("deaf", script, stop_grace=0.3)])
    (grandchild,) = log.wait("deaf", "output")
    supervisor.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert not alive(int(grandchild))


def test_a_guard_that_is_killed_leaves_nothing_behind_and_its_child_is_started_again(start: Start) -> None:
    supervisor, log, _ = start([child("a", SLEEP)])
    log.wait("up", "ready")
    guard = supervisor.statuses()[0].pid
    command = pid_of(supervisor, "a")
    assert guard is not None
    os.kill(guard, signal.SIGKILL)
    log.wait("a", "up", 2)
    assert not alive(command)


def test_no_line_is_lost_or_joined_even_the_last_one_without_an_end(start: Start) -> None:
    script = (
        "import sys, time; sys.stdout.write('one\\ntwo\\n' + 'x' * 20000 + '\\nlast'); sys.stdout.flush(); sys.exit(1)"
    )
    _, log, _ = start([child("a", script)])
    log.wait("a", "ended")
    lines = log.of("a", "output")
    assert lines[:2] == ["one", "two"]
    assert "".join(lines[2:-1]) == "x" * 20000
    assert lines[-1] == "last"


def test_a_stop_before_anything_was_ready_starts_nothing_more(start: Start) -> None:
    supervisor, log, thread = start([child("a", SLEEP, ready=lambda: False), child("b", SLEEP)])
    log.wait("a", "output")
    supervisor.stop()
    thread.join(10)
    assert log.of("b", "started") == []


def test_nothing_survives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "supervise.py"
    program.write_text(
        textwrap.dedent("""
        import os, sys
        from common.platform.processes.supervisor import Child, Supervisor
        class Log:
            def output(self, process, text): print(text, flush=True)
            def event(self, process, event, message, level="INFO"): pass
        script = "import os, subprocess, sys, time; print(os.getpid(), subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True).pid, flush=True); time.sleep(60)"
        Supervisor([Child("a", (sys.executable, "-c", script), dict(os.environ), stop_grace=1.0)], Log()).run()
        """)  # noqa: E501 - a program in a program
    )
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.wait(10)
    process.stdout.close()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, "orphans"
        time.sleep(0.02)


@given(failures=st.integers(1, 10_000), seed=st.integers(0, 100))
def test_the_pause_doubles_within_a_quarter_and_its_range(failures: int, seed: int) -> None:
    delay = Backoff().delay(failures, random.Random(seed))
    doubled = 2.0 ** min(failures - 1, 30)
    assert max(1.0, min(60.0, 0.75 * doubled)) <= delay <= min(60.0, 1.25 * doubled)


def test_the_pause_does_not_grow_after_a_steady_time() -> None:
    log = Recorded()
    backoff = Backoff(first=0.3, most=5.0, steady=0.4)
    supervisor = Supervisor([child("a", "import time; time.sleep(0.5)")], log, rng=random.Random(0), backoff=backoff)
    thread = threading.Thread(target=supervisor.run)
    thread.start()

    try:
        ended = log.wait("a", "ended", 3)
    finally:
        supervisor.stop()
        thread.join(10)

    assert all(float(message.split()[-2]) <= 0.4 for message in ended), ended


def test_a_child_may_tell_that_it_is_ready_by_a_line(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    script = (
        f"import os, time\nprint('starting', flush=True)\nwhile not os.path.exists({str(mark)!r}): time.sleep(0.02)\n"
        "print('admitted 7', flush=True); time.sleep(60)"
    )
    _, log, _ = start(
        [child("node", script, ready_line=re.compile(r"admitted \d"), ready_within=0.0), child("b", SLEEP)]
    )
    log.wait("b", "up")
    assert log.of("node", "up") == []
    mark.touch()
    log.wait("up", "ready")


def test_a_child_that_is_up_and_no_longer_serves_is_silent(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "serves"
    mark.touch()
    supervisor, log, _ = start([child("a", SLEEP, ready=mark.exists), child("b", SLEEP)])
    log.wait("up", "ready")
    assert supervisor.health() == {"a": "up", "b": "up"}
    mark.unlink()
    assert supervisor.health() == {"a": "silent", "b": "up"}


def test_a_child_that_never_stops_printing_holds_up_neither_the_others_nor_the_end(start: Start) -> None:
    flood = "import os\nblock = b'x' * 79 + b'\\n'\nwhile True: os.write(1, block * 800)"
    supervisor, log, thread = start([child("flood", flood), child("b", SLEEP)])
    log.wait("b", "up")
    supervisor.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_child_whose_file_has_changed_is_started_again_and_its_neighbours_are_not(tmp_path: Path) -> None:
    file = tmp_path / "certificate"
    file.write_bytes(b"first")
    script = f"import time; print(open({str(file)!r}).read(), flush=True); time.sleep(60)"
    log = Recorded()
    reader = child("reader", script, reads=file.read_bytes)
    supervisor = Supervisor([reader, child("neighbour", SLEEP)], log, backoff=QUICK, reread=0.05)
    thread = threading.Thread(target=supervisor.run)
    thread.start()

    try:
        log.wait("up", "ready")
        time.sleep(0.3)
        assert log.of("reader", "output") == ["first"]
        file.write_bytes(b"second")
        assert log.wait("reader", "output", 2) == ["first", "second"]
        log.wait("reader", "up", 2)
        time.sleep(0.3)
        assert log.of("reader", "output") == ["first", "second"]
        assert len(log.of("reader", "outdated")) == 1
        # Not a failure: neither an error in the log, nor a pause, nor a restart in the metrics.
        assert log.of("reader", "ended") == []
        assert [status.restarts for status in supervisor.statuses()] == [0, 0]
        assert len(log.of("neighbour", "started")) == 1
    finally:
        supervisor.stop()
        thread.join(10)


def test_an_outdated_child_that_ignores_sigterm_is_killed_and_started_again(tmp_path: Path) -> None:
    file = tmp_path / "certificate"
    file.write_bytes(b"first")
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    log = Recorded()
    deaf = child("deaf", script, reads=file.read_bytes, stop_grace=0.2)
    supervisor = Supervisor([deaf], log, backoff=QUICK, reread=0.05)
    thread = threading.Thread(target=supervisor.run)
    thread.start()

    try:
        log.wait("deaf", "output")
        log.wait("up", "ready")
        file.write_bytes(b"second")
        log.wait("deaf", "output", 2)
    finally:
        supervisor.stop()
        thread.join(10)
