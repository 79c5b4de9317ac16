"""Keep a list of processes alive: start them in order, restart those that end, stop them in reverse order.

A single loop in one thread: the end of a child arrives as a readable file descriptor (pidfd_open(2)). Each child runs
under a guard (`process_guard.py`), so that no descendant survives the child, the supervisor, or a SIGKILL of either.
Linux only.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common.platform.processes import process_guard
from common.platform.processes.child import Backoff, Child, Running, Slot, Status, read_lines

__all__ = ["Backoff", "Child", "Log", "Status", "Supervisor"]

_READY_POLL = 0.2
# Reads of the rest in an ended child's pipe, which by default holds one block.
_BLOCKS_LEFT = 16
# Seconds between two looks at the files that children have read.
_REREAD = 60.0
# Seconds after its grace period at which a guard itself is killed.
_GUARD_MARGIN = 3.0


class Log(Protocol):
    """Destination of log lines."""

    def output(self, process: str, text: str) -> None:
        """A line that a child printed: free text that can hold anything."""

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        """An event in the supervisor."""


@dataclass(slots=True)
class Supervisor:
    """Watch `children`; `run` blocks until `stop` is called from a signal handler or another thread."""

    children: Sequence[Child]
    log: Log
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    backoff: Backoff = field(default_factory=Backoff)
    reread: float = _REREAD
    _slots: list[Slot] = field(init=False)
    _selector: selectors.BaseSelector = field(init=False)
    _waker: socket.socket | None = field(init=False, default=None)
    _stopping: bool = field(init=False, default=False)
    _reread_at: float = field(init=False, default=0.0)
    _is_announced: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._slots = [Slot(child) for child in self.children]

    def statuses(self) -> tuple[Status, ...]:
        """State of every child; may be called from any thread."""
        return tuple(
            Status(slot.child.name, slot.state, slot.restarts, running.guard.pid if (running := slot.running) else None)
            for slot in self._slots
        )

    def health(self) -> dict[str, str]:
        """State of every child, `silent` if it is up but does not serve; may be called from any thread."""
        return {
            slot.child.name: "silent"
            if slot.state == "up" and slot.child.ready and not slot.child.ready()
            else slot.state
            for slot in self._slots
        }

    def stop(self) -> None:
        """Request an orderly stop; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: it has stopped
                self._waker.send(b"s")

    def run(self) -> None:
        """Start all children and keep them alive; after `stop`, end them all."""
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
        """Start children that are due and check whether started ones are ready, in the order of the list."""
        now = self.clock()
        must_wait = False

        for slot in self._slots:
            if slot.explanation != slot.last_logged:
                slot.last_logged = slot.explanation
                if slot.last_logged:
                    self.log.event(slot.child.name, "explained", slot.last_logged, "ERROR")

            if (slot.state == "waiting" and not must_wait) or (slot.state == "backoff" and now >= slot.due):
                self._start(slot)
            running = slot.running
            if running is None:
                continue
            if slot.state == "starting" and now >= slot.due:
                self._look(slot, running)
            if slot.state == "starting" and now - running.start_time < slot.child.ready_within:
                must_wait = True  # later children may need it

        self._replace_outdated(now)
        if not self._is_announced and self._all_are_up():
            self._is_announced = True
            self.log.event("up", "ready", f"ready: {', '.join(slot.child.name for slot in self._slots)}")

    def _replace_outdated(self, now: float) -> None:
        """Stop a child whose file has changed since it read it; `_ended` has it started again."""
        ending = [slot.running for slot in self._slots if slot.running is not None and slot.is_replaced]
        for running in ending:
            if now >= running.kill_at:
                running.guard.kill()
        # One at a time, and only where all are well: the others still serve, and a fault is not made larger.
        if now < self._reread_at or ending or not self._all_are_up():
            return
        self._reread_at = now + self.reread

        for slot in self._slots:
            content = slot.child.reads() if slot.child.reads is not None else None
            if slot.running is None or content is None or content == slot.running.has_read:
                continue
            self.log.event(slot.child.name, "outdated", "a file that it has read is new: started again")
            slot.running.is_replaced = True
            self._tell_to_end(slot.child, slot.running)
            # Its neighbours read the same file, and need not wait for another minute.
            self._reread_at = now
            return

    def _all_are_up(self) -> bool:
        return all(slot.state == "up" for slot in self._slots)

    def _tell_to_end(self, child: Child, running: Running) -> None:
        running.kill_at = self.clock() + child.stop_grace + _GUARD_MARGIN
        running.guard.send_signal(signal.SIGTERM)

    def _until_next(self) -> float | None:
        due = [slot.due for slot in self._slots if slot.state in {"starting", "backoff"}]
        due += [slot.running.kill_at for slot in self._slots if slot.running is not None and slot.is_replaced]
        if self._all_are_up() and any(slot.child.reads for slot in self._slots):
            due.append(self._reread_at)
        return max(0.0, min(due) - self.clock()) if due else None

    def _start(self, slot: Slot) -> None:
        child = slot.child
        # Before the process reads it: a file that changes in between is then read once too often, not once too little.
        has_read = child.reads() if child.reads is not None else None
        watch_end, lifeline = os.pipe()
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        # By path and isolated (-I): the guard must start even if the child's environment breaks imports.
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
        running = Running(guard, os.pidfd_open(guard.pid), output, lifeline, now, has_read=has_read)
        self._selector.register(running.pidfd, selectors.EVENT_READ, slot)
        self._selector.register(running.output, selectors.EVENT_READ, slot)
        slot.running = running
        slot.state = "starting"
        slot.due = now
        self.log.event(child.name, "started", "started")

    def _look(self, slot: Slot, running: Running) -> None:
        now = self.clock()
        child = slot.child
        ready = child.ready() if child.ready is not None else now - running.start_time >= child.settle

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

    def _drain(self, slot: Slot, running: Running, blocks: int = 1) -> None:
        """Log printed lines in at most `blocks` reads, so that a flood from one child does not delay the others."""
        sign = slot.child.ready_line
        for line in read_lines(running, blocks):
            running.said_ready = running.said_ready or (sign is not None and sign.search(line) is not None)
            self.log.output(slot.child.name, line)

    def _ended(self, slot: Slot, running: Running) -> None:
        with contextlib.suppress(ProcessLookupError):  # children of a killed guard; before its pid can be reused
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

        # It did as it was told: this is no failure, and is followed by no pause.
        if running.is_replaced:
            slot.state = "backoff"
            slot.due = now
            return

        steady = now - running.start_time >= self.backoff.steady
        slot.failures = 1 if steady else slot.failures + 1
        if steady:
            slot.explanation = slot.last_logged = ""  # after steady work, an end has a new cause
        slot.restarts += 1
        delay = self.backoff.delay(slot.failures, self.rng)
        slot.state = "backoff"
        slot.due = now + delay
        self.log.event(slot.child.name, "ended", f"ended with {code}, restarted in {delay:.1f} s", "ERROR")
        if slot.child.explain is not None and not slot.explaining:
            slot.explaining = True
            threading.Thread(target=self._explain, args=(slot, slot.child.explain), daemon=True).start()

    def _explain(self, slot: Slot, explain: Callable[[], str | None]) -> None:
        """Find out why a child ended, for the loop to log: only the loop writes to the log."""
        slot.explanation = explain() or ""
        slot.explaining = False
        self._wake()

    def _stop_all(self) -> None:
        """Stop children in reverse order, one after the other; each guard ends the descendants of its command."""
        self._stopping = True

        for slot in reversed(self._slots):
            if slot.running is None:
                slot.state = "stopped"
                continue

            self._tell_to_end(slot.child, slot.running)

            while slot.running is not None:
                if self.clock() >= slot.running.kill_at:
                    slot.running.guard.kill()
                self._wait(_READY_POLL)
