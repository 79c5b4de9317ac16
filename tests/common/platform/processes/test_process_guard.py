"""The guard: nothing that a command started outlives it or whoever watches over it."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from common.platform.processes import process_guard

LONG = "import time; time.sleep(60)"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Guarded:
    """A guard, the end of the pipe it watches, and the pids that its command wrote."""

    def __init__(self, folder: Path, script: str, grace: float, least_descriptor: int = 0) -> None:
        self.pids = folder / "pids"
        program = folder / "program.py"
        program.write_text(
            "import os, signal, subprocess, sys, time\n"
            f"def note(pid):\n    open({str(self.pids)!r}, 'a').write(f'{{pid}}\\n')\n"
            f"note(os.getpid())\n{script}\n"
        )
        inlet, self.lifeline = os.pipe()
        watched = fcntl.fcntl(inlet, fcntl.F_DUPFD, least_descriptor)
        os.close(inlet)
        command = [sys.executable, "-I", process_guard.__file__, str(watched), str(grace), sys.executable, str(program)]
        self.process = subprocess.Popen(command, pass_fds=(watched,), start_new_session=True)
        os.close(watched)

    def noted(self, count: int) -> list[int]:
        wait_until(lambda: self.pids.exists() and self.pids.read_text().count("\n") >= count)
        return [int(line) for line in self.pids.read_text().split()]

    def close(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        self.process.wait(10)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    started: list[Guarded] = []

    def start(script: str, grace: float = 5.0, least_descriptor: int = 0) -> Guarded:
        started.append(Guarded(tmp_path, script, grace, least_descriptor))
        return started[-1]

    yield start
    for one in started:
        one.close()


GRANDCHILDREN = (
    f"note(subprocess.Popen([sys.executable, '-c', {LONG!r}]).pid)\n"
    f"note(subprocess.Popen([sys.executable, '-c', {LONG!r}], start_new_session=True).pid)\n"
)


def test_the_exit_code_of_the_command_is_the_guards(guarded: Callable[..., Guarded]) -> None:
    assert guarded("sys.exit(7)").process.wait(10) == 7


def test_a_supervisor_with_more_than_a_thousand_descriptors_is_watched_too(guarded: Callable[..., Guarded]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    try:
        one = guarded("time.sleep(60)", grace=1.0, least_descriptor=1500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    (pid,) = one.noted(1)
    one.close()
    assert gone(pid)


def test_a_command_ended_by_a_signal_is_told_from_one_that_exits(guarded: Callable[..., Guarded]) -> None:
    assert guarded("os.kill(os.getpid(), signal.SIGKILL)").process.wait(10) == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_ends_with_127(tmp_path: Path) -> None:
    watched, lifeline = os.pipe()
    command = [sys.executable, "-I", process_guard.__file__, str(watched), "1", str(tmp_path / "nothing")]
    done = subprocess.run(command, pass_fds=(watched,), capture_output=True, text=True, check=False, timeout=10)
    os.close(watched)
    os.close(lifeline)
    assert (done.returncode, done.stderr) == (127, "cannot start: No such file or directory\n")


def test_grandchildren_end_with_a_command_that_crashes_also_those_with_a_session_of_their_own(
    guarded: Callable[..., Guarded],
) -> None:
    one = guarded(GRANDCHILDREN + "sys.exit(3)")
    pids = one.noted(3)
    assert one.process.wait(10) == 3
    assert all(gone(pid) for pid in pids)


def test_a_stop_reaches_the_command_and_then_its_descendants(guarded: Callable[..., Guarded]) -> None:
    one = guarded("signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + GRANDCHILDREN + "time.sleep(60)")
    pids = one.noted(3)
    one.process.terminate()
    assert one.process.wait(10) == 0
    assert all(gone(pid) for pid in pids)


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(guarded: Callable[..., Guarded]) -> None:
    one = guarded("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote(0)\ntime.sleep(60)", grace=0.3)
    pids = one.noted(2)
    begun = time.monotonic()
    one.process.terminate()
    assert one.process.wait(10) == 128 + signal.SIGKILL
    assert time.monotonic() - begun >= 0.3
    assert gone(pids[0])


def test_nothing_is_left_when_whoever_holds_the_lifeline_is_gone(guarded: Callable[..., Guarded]) -> None:
    one = guarded(GRANDCHILDREN + "time.sleep(60)")
    pids = one.noted(3)
    held = one.lifeline
    one.lifeline = os.open(os.devnull, os.O_RDONLY)
    os.close(held)
    one.process.wait(10)
    assert all(gone(pid) for pid in pids)


def test_a_killed_guard_takes_its_command_with_it(guarded: Callable[..., Guarded]) -> None:
    one = guarded("time.sleep(60)")
    (pid,) = one.noted(1)
    one.process.kill()
    wait_until(lambda: gone(pid))
