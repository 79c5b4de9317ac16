"""Runs a comparison in several processes: originals, then tuning, then the cells of each seed and size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from common.errors import FedForgetError, OutputError
from common.files import write_text
from common.settings import parse
from simulations.comparison.jobs import Job, Jobs, OutOfTimeError, run_job
from simulations.comparison.plan import cells, size_name
from simulations.comparison.projection import Measured, Projection
from simulations.comparison.settings import ComparisonConfig
from simulations.run.prepare import require_writable

SETTINGS_FILE = "settings.json"
MEASURED_FILE = "measured.json"
_LOOK = 2.0
"""Seconds between updates of the progress bar."""

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """How to run it.

    Attributes:
        jobs: processes at a time.
        share: `(1, 3)` runs every third seed from the second, for several machines; each tunes for itself.
        until: seconds since the epoch after which no new work starts.
        ray: address of a Ray cluster that runs the jobs instead of processes, see `ray_pool`; empty for processes.
    """

    jobs: int = 1
    share: tuple[int, int] = (0, 1)
    until: float = float("inf")
    ray: str = ""


def prepare_folder(config: ComparisonConfig, out: Path) -> None:
    """Make `out` the folder of a comparison; methods, aggregations and seeds may differ from those already there.

    Raises:
        OutputError: it holds a comparison with another federation or other sizes.
    """
    require_writable(out)
    file = out / SETTINGS_FILE

    if file.exists():
        # Read with the current defaults, so that a setting added in a later version is no change.
        earlier = parse(ComparisonConfig, json.loads(file.read_text(encoding="utf-8")), str(file))
        # What every result depends on. Methods and seeds may grow: their cells are files of their own.
        names = ("run", "sizes", "forget_lists", "tuning")
        changes = [name for name in names if getattr(earlier, name) != getattr(config, name)]

        if changes:
            raise OutputError(
                f"holds a comparison with another {changes[0]}", where=str(out), remedy="choose another --out"
            )

    write_text(file, config.model_dump_json(indent=2) + "\n")


def project(config: ComparisonConfig, out: Path) -> Projection:
    """Measure a round and a cell, or read back the earlier measurement.

    Raises:
        InputError: settings or data.
    """
    file = out / MEASURED_FILE
    if not file.exists():
        of_round, of_cell = Jobs(config, out).measure(0)
        write_text(file, Measured(round=of_round, cell=of_cell).model_dump_json() + "\n")

    return Projection(config, Measured.model_validate_json(file.read_bytes()))


def phases(config: ComparisonConfig, projection: Projection, share: tuple[int, int]) -> list[list[Job]]:
    """Jobs by phase; the jobs of one phase may run in parallel."""
    first, of = share
    seeds = range(first, config.seeds, of)

    # Cells need the tuned settings and the originals, and tuning needs the original of its seed.
    return [
        [Job("original", seed=seed, weight=projection.training) for seed in (config.tuning.seed, *seeds)],
        [Job("tune", method=method, weight=projection.tuning) for method in config.methods],
        [Job("cells", seed=seed, size=size, weight=projection.group(size)) for seed in seeds for size in config.sizes],
    ]


def run_comparison(config: ComparisonConfig, out: Path, order: Order, on_progress: OnProgress) -> bool:
    """Run all jobs without a result; returns False if the budget is spent before they finish.

    Raises:
        FedForgetError: a job failed; results of the others stay.
    """
    plan = phases(config, project(config, out), order.share)
    total = sum(job.weight for jobs in plan for job in jobs)
    before = 0.0

    with _executor(order) as pool:
        for jobs in plan:
            waiting = {pool.submit(run_job, config, out, order.until, job): job for job in jobs}
            while waiting:
                for future in wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED).done:
                    if not _finished(future):
                        # Jobs that run end by themselves: each looks at the deadline.
                        pool.shutdown(cancel_futures=True)
                        return False

                    before += waiting.pop(future).weight

                running = sum(_share_done(config, out, job) * job.weight for job in waiting.values())
                on_progress("compare", round(before + running), round(total))

    return True


def _share_done(config: ComparisonConfig, out: Path, job: Job) -> float:
    """Finished share of a running job, by its results on disk."""
    if job.kind != "cells":
        return 0.0
    mine = cells(config, job.size, job.seed)
    return sum(Jobs(config, out).path(cell).exists() for cell in mine) / len(mine)


def _finished(future: Future[None]) -> bool:
    try:
        future.result()
    except OutOfTimeError:
        return False

    return True


def _executor(order: Order) -> AbstractContextManager[Executor]:
    if not order.ray:
        return _pool(order.jobs)
    from simulations.comparison.ray_pool import ray_pool  # noqa: PLC0415 - seconds of import

    return ray_pool(order.ray)


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes with one thread each; they keep their imports from job to job.

    Raises:
        FedForgetError: a process died.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    # torch reads it on import; sums over several threads would give other bits.
    os.environ["OMP_NUM_THREADS"] = "1"

    try:
        # Spawned: a fork copies locks in whatever state other threads left them.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            yield pool
    except BrokenProcessPool:
        raise FedForgetError("a process died, perhaps out of memory; run the same command again to continue") from None
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def projected_text(projection: Projection, jobs: int, sizes: Sequence[float], count: int) -> str:
    """The message before the start."""
    hours = projection.total / jobs / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
    names = ", ".join(size_name(size) for size in sizes)

    return (
        f"projected: at most {duration} in {jobs} process{'es' if jobs > 1 else ''} for {count} models at {names} % "
        f"forgotten (a round takes {projection.measurement.round:.1f} s, a cell {projection.measurement.cell:.1f} s)"
    )
