"""Creates the hospitals once, and measures each size in a fresh process without their memory."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from pydantic import BaseModel

from client.cohort.site_files import read_site, write_site
from common.errors import FedForgetError
from common.files import write_text
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Split
from simulations.run.prepare import prepare, require_writable
from simulations.run.run_result import versions
from simulations.run.settings import SimulationConfig
from simulations.scale.measure import Order, measure_here
from simulations.scale.result import Size, read_size, size_path
from simulations.scale.settings import ScaleConfig

OnProgress = Callable[[str, int, int], None]
WORLD_FILE = "world.json"


class World(BaseModel):
    """The largest federation, and the patients who will revoke at each hospital."""

    digest: str
    card: ModelCard
    sites: tuple[str, ...]
    forget: dict[str, tuple[str, ...]]


def run_sizes(config: ScaleConfig, out: Path, on_progress: OnProgress) -> list[Size]:
    """Measure the sizes without a result for these settings; returns all sizes, smallest first.

    Raises:
        InputError: settings or folder.
        FedForgetError: a process died, or a hospital did not answer.
    """
    require_writable(out)
    results = {count: _known(config, out, count) for count in config.sizes}

    if missing := [count for count, result in results.items() if result is None]:
        world = made(config, out / "world", on_progress)
        for count in missing:
            results[count] = measured(config, world, out, count, on_progress)
            shutil.rmtree(out / "work", ignore_errors=True)

    return [result for result in results.values() if result is not None]


def _known(config: ScaleConfig, out: Path, count: int) -> Size | None:
    path = size_path(out, count)
    if not path.exists():
        return None
    result = read_size(path)
    return result if result.digest == digest(config, count) else None


def digest(config: ScaleConfig, count: int) -> str:
    """Digest of all settings on which the result of a size depends."""
    # A smaller federation is the first hospitals of the largest, whatever that is.
    settings = config.model_dump(mode="json", exclude={"sizes": True, "run": {"hospitals": {"sites"}}})
    return hashlib.sha256(json.dumps([settings, count], sort_keys=True).encode()).hexdigest()


def made(config: ScaleConfig, folder: Path, on_progress: OnProgress) -> World:
    """The hospitals of the largest federation, written to `folder` or found there.

    Raises:
        InputError: settings or folder.
    """
    count = max(config.sizes)
    file = folder / WORLD_FILE
    own_digest = digest(config, count)
    if file.exists() and (earlier := World.model_validate_json(file.read_bytes())).digest == own_digest:
        return earlier
    shutil.rmtree(folder, ignore_errors=True)
    hospitals = config.run.hospitals.model_copy(update={"sites": count})
    run: SimulationConfig = config.run.model_copy(update={"hospitals": hospitals})
    preparation = prepare(run, folder, lambda count, total: on_progress("images", count, total))
    world = World(
        digest=own_digest, card=preparation.card, sites=_by_number(preparation.sites), forget=preparation.forget
    )
    write_text(file, world.model_dump_json() + "\n")

    return world


def _by_number(names: tuple[str, ...]) -> tuple[str, ...]:
    """`site-2` before `site-10`."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def measured(config: ScaleConfig, world: World, out: Path, count: int, on_progress: OnProgress) -> Size:
    """Measure one size in a process that contains only the server.

    Raises:
        FedForgetError: the process died, or a hospital did not answer.
    """
    sites = dict(enumerate(world.sites[:count], start=1))
    folders = {node: out / "work" / "sites" / name for node, name in sites.items()}

    # Fresh folders for each size: in a federation measured before, patients have revoked.
    for node, name in sites.items():
        file = read_site(out / "world" / "sites" / name)
        write_site(
            folders[node], file.cohort, Split(file.subsets), file.card,
            name=name, seed=file.seed, device=file.device, cache=Path(file.cache),
        )  # fmt: skip

    forget = {node: world.forget[name] for node, name in sites.items() if name in world.forget}
    order = Order(
        config, world.card, folders, forget, out / "work" / "server",
        digest=digest(config, count), machine=_machine(), versions=versions(),
    )  # fmt: skip
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=measure_here, args=(theirs, order, out))
    stage = f"{count} hospitals"
    on_progress(stage, 0, order.messages)
    with _one_thread():
        process.start()
    # Only the child may hold this end: reading from ours then ends when the child does.
    theirs.close()
    try:
        while (answer := _next(ours)) is not None:
            if isinstance(answer, str):
                raise FedForgetError(f"{stage}: {answer}")
            on_progress(stage, answer, order.messages)
    # Also on Ctrl-C: a child that goes on would use the machine that the next run measures.
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
        ours.close()

    if process.exitcode:
        raise FedForgetError(
            f"{stage}: the process died, perhaps out of memory; run the same command again to continue"
        )
    on_progress(stage, order.messages, order.messages)

    return read_size(size_path(out, count))


def _machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores, {gpu}, {platform.system()} {platform.machine()}"


def _next(pipe: Connection) -> int | str | None:
    """Number of answered messages, the reason of a failure, or None at the end."""
    try:
        answer: int | str = json.loads(pipe.recv_bytes())
    except EOFError:
        return None

    return answer


@contextmanager
def _one_thread() -> Iterator[None]:
    """Read where a process imports torch: with several threads seconds of a core say little."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"

    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
