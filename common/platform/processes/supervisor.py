"""Keeps a list of processes alive: starts them in order, restarts what ends, stops them in reverse order.

One loop in one thread; children's ends arrive as readable file descriptors (pidfd_open(2)). Each child runs under a
guard (`process_guard.py`), so that no descendant survives the child, the supervisor, or a SIGKILL of either.
Linux only.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from common.platform.processes import process_guard

State = Literal["waiting", "starting", "up", "backoff", "stopped"]
_READY_POLL = 0.2
_LONGEST_LINE = 16_384
"""Bytes; a longer line is logged in pieces."""
_BLOCKS_LEFT = 16
"""Reads of what an ended child left in its pipe, which holds one such block by default."""
_GUARD_MARGIN = 3.0
"""Seconds beyond its grace after which a guard itself is killed."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    """Does it serve? Quick, never raising, from any thread; None where living for `settle` seconds is enough."""
    ready_line: re.Pattern[str] | None = None
    """It is ready once it has printed a line with this, where that says more than any question to it."""
    settle: float = 1.0
    stop_grace: float = 3.0
    """Seconds from SIGTERM to SIGKILL."""
    ready_within: float = 60.0
    """Seconds after which the next child is started even though this one is not ready."""
    explain: Callable[[], str | None] | None = None
    """Says why it may have ended, for the log; may take seconds, is called from a thread of its own, never raises."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause before a restart, in seconds: doubles from `first` to `most`, starts again after `steady` seconds up."""

    first: float = 1.0
    most: float = 60.0
    steady: float = 60.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Pause after the `failures`-th end in a row, drawn from [.75, 1.25] of the doubling and kept in its range."""
        base = self.first * 2.0 ** min(failures - 1, 30)
        return max(self.first, min(self.most, base * rng.uniform(0.75, 1.25)))


class Log(Protocol):
    """Where lines go."""

    def output(self, process: str, text: str) -> None:
        """A line that a child printed: free text that can hold anything."""

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        """Something that the supervisor did or saw."""


@dataclass(frozen=True, slots=True)
class Status:
    """A child as it stands."""

    name: str
    state: State
    restarts: int
    pid: int | None


@dataclass(slots=True)
class _Running:
    """A started child: its guard and our ends of its pipes."""

    guard: subprocess.Popen[bytes]
    pidfd: int
    output: int
    lifeline: int
    started: float
    kill_at: float = float("inf")
    said_ready: bool = False
    partial: bytes = b""


@dataclass(slots=True)
class _Slot:
    child: Child
    state: State = "waiting"
    running: _Running | None = None
    failures: int = 0
    restarts: int = 0
    explaining: bool = False
    explanation: str = ""
    """Why it ended, as far as was found out."""
    said: str = ""
    """The last explanation that was logged."""
    due: float = 0.0
    """When it is started again (`backoff`) or looked at again (`starting`)."""


@dataclass(slots=True)
class Supervisor:
    """Watches `children`; `run` blocks until `stop` is called, from a signal handler or another thread."""

    children: Sequence[Child]
    log: Log
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    backoff: Backoff = Backoff()
    _slots: list[_Slot] = field(init=False)
    _selector: selectors.BaseSelector = field(init=False)
    _waker: socket.socket | None = field(init=False, default=None)
    _stopping: bool = field(init=False, default=False)
    _is_announced: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._slots = [_Slot(child) for child in self.children]

    def statuses(self) -> tuple[Status, ...]:
        """Every child as it stands; may be called from any thread."""
        return tuple(
            Status(slot.child.name, slot.state, slot.restarts, running.guard.pid if (running := slot.running) else None)
            for slot in self._slots
        )

    def health(self) -> dict[str, str]:
        """The state of every child, `silent` for one that is up and no longer serves; may be called from any thread."""
        return {
            slot.child.name: "silent"
            if slot.state == "up" and slot.child.ready and not slot.child.ready()
            else slot.state
            for slot in self._slots
        }

    def stop(self) -> None:
        """Ask for an orderly stop; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: it has stopped
                self._waker.send(b"s")

    def run(self) -> None:
        """Start all, keep all alive, and after `stop` leave none."""
        woken, self._waker = socket.socketpair()

        with woken, self._waker, selectors.DefaultSelector() as self._selector:
            for end in (woken, self._waker):
                end.setblocking(False)
            self._selector.register(woken, selectors.EVENT_READ, woken)
            try:
                while not self._stopping:
                    self._advance()
                    self._wait(self._until_next())
            finally:
                self._stop_all()

    def _advance(self) -> None:
        """Start what is due, look whether what was started is ready, in the order of the list."""
        now = self.clock()
        must_wait = False

        for slot in self._slots:
            if slot.explanation != slot.said:
                slot.said = slot.explanation
                if slot.said:
                    self.log.event(slot.child.name, "explained", slot.said, "ERROR")

            if (slot.state == "waiting" and not must_wait) or (slot.state == "backoff" and now >= slot.due):
                self._start(slot)
            running = slot.running
            if running is None:
                continue
            if slot.state == "starting" and now >= slot.due:
                self._look(slot, running)
            if slot.state == "starting" and now - running.started < slot.child.ready_within:
                must_wait = True  # those after it may need it

        if not self._is_announced and all(slot.state == "up" for slot in self._slots):
            self._is_announced = True
            self.log.event("up", "ready", f"ready: {', '.join(slot.child.name for slot in self._slots)}")

    def _until_next(self) -> float | None:
        due = [slot.due for slot in self._slots if slot.state in {"starting", "backoff"}]
        return max(0.0, min(due) - self.clock()) if due else None

    def _start(self, slot: _Slot) -> None:
        child = slot.child
        watch_end, lifeline = os.pipe()
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        guard = subprocess.Popen(
            [sys.executable, "-I", process_guard.__file__, str(watch_end), str(child.stop_grace), *child.argv],
            env=dict(child.env),
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            pass_fds=(watch_end,),
            start_new_session=True,
        )
        os.close(watch_end)
        os.close(write_end)
        now = self.clock()
        running = _Running(guard, os.pidfd_open(guard.pid), output, lifeline, now)
        self._selector.register(running.pidfd, selectors.EVENT_READ, slot)
        self._selector.register(running.output, selectors.EVENT_READ, slot)
        slot.running = running
        slot.state = "starting"
        slot.due = now
        self.log.event(child.name, "started", "started")

    def _look(self, slot: _Slot, running: _Running) -> None:
        now = self.clock()
        child = slot.child
        ready = child.ready() if child.ready is not None else now - running.started >= child.settle

        if ready and (child.ready_line is None or running.said_ready):
            slot.state = "up"
            self.log.event(child.name, "up", "up")
        else:
            slot.due = now + _READY_POLL

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            slot = key.data
            if isinstance(slot, socket.socket):
                with contextlib.suppress(BlockingIOError):
                    slot.recv(4096)
            elif slot.running is not None and key.fd == slot.running.output:
                self._drain(slot, slot.running)
            elif slot.running is not None and key.fd == slot.running.pidfd:
                self._ended(slot, slot.running)

    def _drain(self, slot: _Slot, running: _Running, blocks: int = 1) -> None:
        """Log what was printed; no more than `blocks` reads, so that one child's flood holds up nothing else."""
        sign = slot.child.ready_line
        for line in _lines(running, blocks):
            running.said_ready = running.said_ready or (sign is not None and sign.search(line) is not None)
            self.log.output(slot.child.name, line)

    def _ended(self, slot: _Slot, running: _Running) -> None:
        with contextlib.suppress(ProcessLookupError):  # what a killed guard may have left; before its pid is free again
            os.killpg(running.guard.pid, signal.SIGKILL)
        code = running.guard.wait()
        self._drain(slot, running, _BLOCKS_LEFT)
        if running.partial:
            self.log.output(slot.child.name, running.partial.decode("utf-8", "replace"))
        for fd in (running.pidfd, running.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)

        os.close(running.lifeline)
        now = self.clock()
        slot.running = None

        if self._stopping:
            slot.state = "stopped"
            self.log.event(slot.child.name, "stopped", "stopped")
            return

        steady = now - running.started >= self.backoff.steady
        slot.failures = 1 if steady else slot.failures + 1
        if steady:
            slot.explanation = slot.said = ""  # it is another story now
        slot.restarts += 1
        delay = self.backoff.delay(slot.failures, self.rng)
        slot.state = "backoff"
        slot.due = now + delay
        self.log.event(slot.child.name, "ended", f"ended with {code}, restarted in {delay:.1f} s", "ERROR")
        if slot.child.explain is not None and not slot.explaining:
            slot.explaining = True
            threading.Thread(target=self._explain, args=(slot, slot.child.explain), daemon=True).start()

    def _explain(self, slot: _Slot, explain: Callable[[], str | None]) -> None:
        """Find out why a child ended, and leave it to the loop, which alone writes to the log."""
        slot.explanation = explain() or ""
        slot.explaining = False
        self._wake()

    def _stop_all(self) -> None:
        """In reverse order, one after the other; each guard ends what its command leaves behind."""
        self._stopping = True

        for slot in reversed(self._slots):
            if slot.running is None:
                slot.state = "stopped"
                continue

            slot.running.kill_at = self.clock() + slot.child.stop_grace + _GUARD_MARGIN
            slot.running.guard.send_signal(signal.SIGTERM)

            while slot.running is not None:
                if self.clock() >= slot.running.kill_at:
                    slot.running.guard.kill()
                self._wait(_READY_POLL)


def _lines(running: _Running, blocks: int) -> Iterator[str]:
    """Whole lines of what can be read now, in at most `blocks` reads; what follows the last stays in `partial`."""
    for _ in range(blocks):
        try:
            block = os.read(running.output, 65_536)
        except BlockingIOError:
            return

        if not block:
            return
        *whole, running.partial = (running.partial + block).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        while len(running.partial) > _LONGEST_LINE:
            head = running.partial[:_LONGEST_LINE]
            running.partial = running.partial[_LONGEST_LINE:]
            yield head.decode("utf-8", "replace")
