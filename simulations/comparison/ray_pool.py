"""Jobs as tasks of Ray, the engine under Flower's simulations: on this machine, or on all of a cluster's."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from common.errors import FedForgetError, UnavailableError

T = TypeVar("T")
LOCAL = "local"
"""Instead of an address: start Ray here, and stop it at the end."""


class RayPool(Executor):
    """What is submitted runs where Ray has a free core, and a free GPU where it has any; with one thread."""

    def __init__(self, address: str) -> None:
        """Connect to a cluster at `address`, `auto` for the one of this machine, or start `LOCAL`.

        Raises:
            UnavailableError: no cluster answers at the address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without it Ray warns of what a later version will do by itself.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        own: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}

        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UnavailableError(f"no Ray at {address}: {str(error).splitlines()[0]}") from None

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # as Ray has it
        gpus = 1 if resources.get("GPU", 0) >= 1 else 0
        # Sums over several threads would give other bits.
        threads = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        self._task: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, runtime_env=threads)(_in_folder)

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Return a future with the result of `work`, like a process pool."""
        future: Future[T] = Future()

        def hand_over(task: Future[T]) -> None:
            # The result of a cancelled future cannot be set.
            if future.cancelled():
                return
            error = task.exception()
            if error is None:
                future.set_result(task.result())
            else:
                future.set_exception(_cause(error))

        self._task.remote(Path.cwd(), work, arguments, named).future().add_done_callback(hand_over)

        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - of the interface
        """Disconnect from Ray; running tasks end."""
        ray.shutdown()


def _in_folder(folder: Path, work: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]) -> T:
    # A path that is relative here is relative there, too: the machines share this folder.
    os.chdir(folder)
    return work(*arguments, **named)


def _cause(error: BaseException) -> BaseException:
    """The task's own exception, without Ray's trace."""
    if isinstance(error, RayTaskError):
        return error.cause if isinstance(error.cause, Exception) else error
    return FedForgetError(f"a task of Ray was lost ({type(error).__name__}); run the same command again to continue")


@contextmanager
def ray_pool(address: str) -> Iterator[RayPool]:
    """A pool that always disconnects from Ray at the end."""
    pool = RayPool(address)

    try:
        yield pool
    finally:
        pool.shutdown()
