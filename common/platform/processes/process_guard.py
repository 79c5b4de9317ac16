"""Run one command, and let no descendant of it outlive it or the supervisor.

Each child of the supervisor has its own guard as parent: a small program without threads, which can fork and set a
parent-death signal safely; the supervisor has threads and cannot. As the reaper of orphaned descendants (prctl(2),
PR_SET_CHILD_SUBREAPER) the guard also finds those that left the process group. A watched pipe tells it that the
supervisor is gone, however it ended. Linux only.

    python process_guard.py WATCHED-FD GRACE-SECONDS COMMAND [ARGUMENT ...]

It exits with the command's exit code, or 128 + the number of the signal that ended it. It imports none of our modules,
as it is run by path, in isolated mode.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Seconds that descendants get to end after the command has ended by itself.
_AFTER_THE_COMMAND = 2.0
_POLL = 0.05


def main(watched: int, grace: float, command: list[str]) -> int:
    """Run `command` until it ends, SIGTERM arrives or `watched` reaches its end; then end its descendants."""
    os.set_inheritable(watched, False)
    signals: list[int] = []
    inlet, outlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # A signal makes the pipe readable, so one poll waits for signals and for the supervisor.
    signal.set_wakeup_fd(outlet, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    # A handler, though it does nothing: ignored signals do not wake the poll.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = _start(command)
    status: int | None = None
    deadline = float("inf")

    while status is None and time.monotonic() < deadline:
        wait = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        readable = _readable([inlet] if deadline < float("inf") else [inlet, watched], wait)
        with contextlib.suppress(BlockingIOError):
            os.read(inlet, 4096)
        if deadline == float("inf") and (signals or watched in readable):
            deadline = time.monotonic() + grace
            _signal(child, signal.SIGTERM)

        status = _reap(child)

    late_status = _end_descendants(min(deadline, time.monotonic() + _AFTER_THE_COMMAND), child)
    code = os.waitstatus_to_exitcode(status if status is not None else late_status)

    return code if code >= 0 else 128 - code


def _readable(descriptors: list[int], seconds: float | None) -> set[int]:
    """Wait until one of `descriptors` has something to read or is at its end; none after `seconds`."""
    poll = select.poll()  # select(2) refuses descriptors from 1024 on, and a supervisor may have that many
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)

    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}


def _start(command: list[str]) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    _become(command, guard)


def _become(command: list[str], guard: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:  # else it died before the parent-death signal was set
            os.execvp(command[0], command)  # noqa: S606 - a command of ours, no shell
    except OSError as err:
        os.write(2, f"cannot start: {err.strerror}\n".encode())

    os._exit(127)


def _reap(child: int) -> int | None:
    """Reap all ended descendants; returns the wait status of `child` if it is among them."""
    status: int | None = None

    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            status = code if pid == child else status

    return status


def _end_descendants(deadline: float, child: int) -> int:
    """Send SIGTERM, and SIGKILL after `deadline`, until none is left; returns the wait status of `child`."""
    status = int(signal.SIGKILL)
    targets = set[int]()

    while True:
        code = _reap(child)
        status = status if code is None else code
        # Asked again after each round: a process that is being ended may have started another.
        alive = _descendants(os.getpid())
        if not alive:
            return status
        late = time.monotonic() >= deadline
        for pid in alive if late else alive - targets:
            _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        targets |= alive
        time.sleep(_POLL)


def _descendants(ancestor: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                # proc(5): the name, in parentheses, may hold anything; state and parent follow it
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                )

    family = set[int]()
    fringe = {ancestor}
    while fringe:
        fringe = {pid for pid, parent in parents.items() if parent in fringe} - family
        family |= fringe

    return family


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
