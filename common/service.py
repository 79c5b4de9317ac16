"""What `up` does alike on both sides: one at a time in a folder, no key that others can read, children, a monitor."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.registry import Collector

from common.errors import InputError, OutputError, RefusedError
from common.files import read_private
from common.flower import LOOPBACK
from common.monitoring import monitor
from common.process_log import ProcessLog, terminal_line
from common.structured_log import Entry
from common.supervisor import Child, Supervisor

_LOCK_FILE = "up.lock"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel drops it with the process, however that ends.

    Raises:
        RefusedError: another `up` holds it.
        OutputError: the folder cannot be written.
    """
    path = folder / _LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise OutputError(
            f"cannot write: {err.strerror}", where=str(path), remedy="check --dir and its owner"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"{folder}: another `up` runs in this folder: stop that one first") from None
        yield
    finally:
        os.close(handle)


def is_up(folder: Path) -> bool:
    """Does an `up` hold the folder's lock?"""
    with suppress(OSError), (folder / _LOCK_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refuse_exposed(secrets: Iterable[Path]) -> None:
    """Raise an `InputError` that names every secret that is missing or that others can read."""
    problems = []
    for path in secrets:
        try:
            read_private(path)
        except InputError as err:
            problems.append(err)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InputError("; ".join(str(problem) for problem in problems))


def dialled(listen: str) -> str:
    """The address at which this machine reaches what listens at `listen`: a wildcard is asked on loopback."""
    return {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}.get(listen, listen)  # noqa: S104 - not bound here


def accepts(host: str, port: int) -> Callable[[], bool]:
    """A question that is answered yes when something listens at `host:port`."""

    def ask() -> bool:
        try:
            socket.create_connection((dialled(host), port), timeout=0.5).close()
        except OSError:
            return False
        return True

    return ask


def keep_up(
    children: Sequence[Child],
    logs: Path,
    select: Callable[[str], tuple[str, str] | None],
    monitor_port: int,
    collectors: Sequence[Collector] = (),
    *,
    as_json: bool,
) -> None:
    """Run `children` until SIGTERM, SIGINT or SIGHUP, then stop them all.

    Args:
        children: in the order in which they are started.
        logs: folder of their log files.
        select: what of a printed line may be kept.
        monitor_port: of `/health` and `/metrics` on loopback.
        collectors: of further metrics.
        as_json: print entries as JSON lines on standard output, not as text on standard error.

    Raises:
        UnavailableError: the monitor's port is taken.
    """

    def show(entry: Entry) -> None:
        stream, line = (sys.stdout, entry.to_json()) if as_json else (sys.stderr, terminal_line(entry))
        with suppress(BrokenPipeError):  # whoever read it has gone; the files go on
            print(line, file=stream, flush=True)

    log = ProcessLog(logs, select, show, lambda: datetime.now(UTC))
    supervisor = Supervisor(children, log)
    before = {number: signal.signal(number, lambda *_: supervisor.stop()) for number in _SIGNALS}
    try:
        with monitor(supervisor, monitor_port, collectors):
            supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        log.close()
