"""What `up` does alike on both sides: no key that others can read, free ports, children, a monitor."""

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


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a child is going to listen on.

    Attributes:
        name: what it is for.
        setting: where it is set, as `[ports] gateway in server.toml`.
    """

    name: str
    host: str
    number: int
    setting: str


def refuse_taken(ports: Iterable[Port]) -> None:
    """Raise an `UnavailableError` that names every port on which something listens already, or that is not ours."""
    problems = []

    for port in ports:
        family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
        with socket.socket(family) as trial:
            # As servers do: what a connection that has ended leaves behind is no obstacle.
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
        children: in the order in which they are started.
        logs: folder of their log files.
        select: what of a printed line may be kept.
        monitor_port: of `/health` and `/metrics` on loopback.
        collectors: of further metrics.
        beats: without which `/health` is not healthy.
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
        with monitor(supervisor, monitor_port, collectors, beats):
            supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        log.close()
