"""`/health` and `/metrics` of a supervisor, on loopback. Labels name processes, sites and states, never patients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.errors import UnavailableError
from common.platform.processes.beats import Beat
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.supervisor import Supervisor


class ProcessCollector(Collector):
    """Whether each process is up, and how often it was restarted."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        up = GaugeMetricFamily("fedforget_process_up", "1 when the process runs and serves.", labels=["process"])
        restarts = CounterMetricFamily("fedforget_process_restarts", "Restarts since `up` began.", labels=["process"])
        health = self._supervisor.health()
        for status in self._supervisor.statuses():
            up.add_metric([status.name], float(health[status.name] == "up"))
            restarts.add_metric([status.name], status.restarts)

        return up, restarts


class BeatCollector(Collector):
    """Age of each beat."""

    def __init__(self, beats: Sequence[Beat]) -> None:
        self._beats = beats

    def collect(self) -> Iterable[Metric]:
        """The current metrics; a beat that never happened has none."""
        ages = GaugeMetricFamily("fedforget_beat_age_seconds", "Seconds since this was last done.", labels=["beat"])

        for beat in self._beats:
            age = beat.age()
            if age is not None:
                ages.add_metric([beat.name], age)

        return (ages,)


def monitor_app(supervisor: Supervisor, collectors: Sequence[Collector] = (), beats: Sequence[Beat] = ()) -> Starlette:
    """`/health` and `/metrics`.

    `/health` returns 200 if every process is up and every beat is fresh, otherwise 503, with the state of each process
    and the age of each beat. `/metrics` is for Prometheus.
    """
    registry = CollectorRegistry()
    for collector in (ProcessCollector(supervisor), BeatCollector(beats), *collectors):
        registry.register(collector)

    def health(_: Request) -> Response:
        parts = supervisor.health()
        healthy = all(state == "up" for state in parts.values()) and all(beat.fresh for beat in beats)
        ages = {beat.name: {"age_seconds": _tenths(beat.age()), "limit_seconds": beat.limit} for beat in beats}
        report = {"healthy": healthy, "processes": parts, "beats": ages}

        return JSONResponse(report, status_code=200 if healthy else 503)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/health", health), Route("/metrics", metrics)])


def _tenths(age: float | None) -> float | None:
    return None if age is None else round(age, 1)


@contextmanager
def monitor(
    supervisor: Supervisor, port: int, collectors: Sequence[Collector] = (), beats: Sequence[Beat] = ()
) -> Iterator[int]:
    """Serve `monitor_app` on loopback from a thread; yields the port, a free one for 0.

    Raises:
        UnavailableError: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as err:
        listener.close()
        raise UnavailableError(f"cannot listen at {LOOPBACK}:{port} for health and metrics: {err.strerror}") from None

    app = monitor_app(supervisor, collectors, beats)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="monitor", daemon=True)
    thread.start()

    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()
