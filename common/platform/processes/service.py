"""Shared parts of `up` on both sides: private keys, free ports, children, a monitor."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.registry import Collector

from common.errors import InputError, UnavailableError
from common.files import read_private
from common.platform.processes.beats import Beat
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.monitoring import monitor
from common.platform.processes.process_log import ProcessLog, terminal_line
from common.platform.processes.structured_log import Entry
from common.platform.processes.supervisor import Child, Supervisor

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    """The address at which this machine reaches a listener at `listen`: loopback for a wildcard."""
    return {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}.get(listen, listen)  # noqa: S104 - not bound here


def accepts(host: str, port: int) -> Callable[[], bool]:
    """A function that tells whether something listens at `host:port`."""

    def ask() -> bool:
        try:
            socket.create_connection((dialled(host), port), timeout=0.5).close()
        except OSError:
            return False

        return True

    return ask


@dataclass(frozen=True, slots=True)
class Port:
    """A port for a child to listen on.

    Attributes:
        name: purpose of the port.
        setting: where it is set, e.g. `[ports] gateway in server.toml`.
    """

    name: str
    host: str
    number: int
    setting: str


def refuse_taken(ports: Iterable[Port]) -> None:
    """Raise an `UnavailableError` that names every port that is in use or that we may not bind."""
    problems = []

    for port in ports:
        family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
        with socket.socket(family) as trial:
            # As servers do: connections in TIME_WAIT are no obstacle.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((port.host, port.number))
                trial.listen()
            except OSError as err:
                in_use = err.errno == errno.EADDRINUSE
                reason = "another process listens there" if in_use else (err.strerror or "cannot be used")
                at = f"port {port.number} ({port.name}) at {port.host or LOOPBACK}"
                problems.append(f"{at}: {reason}; {port.setting}")

    if problems:
        raise UnavailableError(f"{', and '.join(problems)}: stop that process, or set another port")


def keep_up(
    children: Sequence[Child],
    logs: Path,
    select: Callable[[str], tuple[str, str] | None],
    monitor_port: int,
    collectors: Sequence[Collector] = (),
    beats: Sequence[Beat] = (),
    *,
    as_json: bool,
) -> None:
    """Run `children` until SIGTERM, SIGINT or SIGHUP, then stop them all.

    Args:
        children: processes, in the order of their start.
        logs: folder of their log files.
        select: returns the part of a printed line that may be kept.
        monitor_port: port of `/health` and `/metrics` on loopback.
        collectors: collectors of further metrics.
        beats: beats that `/health` requires to be fresh.
        as_json: print entries as JSON lines on standard output, not as text on standard error.

    Raises:
        UnavailableError: the monitor's port is taken.
    """

    def show(entry: Entry) -> None:
        stream, line = (sys.stdout, entry.to_json()) if as_json else (sys.stderr, terminal_line(entry))
        with suppress(BrokenPipeError):  # the reader has gone; the files continue
            print(line, file=stream, flush=True)

    log = ProcessLog(logs, select, show, lambda: datetime.now(UTC))
    supervisor = Supervisor(children, log)
    before = {number: signal.signal(number, lambda *_: supervisor.stop()) for number in _SIGNALS}

    try:
        with monitor(supervisor, monitor_port, collectors, beats):
            supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        log.close()
