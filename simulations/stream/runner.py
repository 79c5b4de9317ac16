"""Runs streams: trains once, then a campaign for each batch of revocations, and retrains for comparison."""

from __future__ import annotations

from pathlib import Path

from common.errors import ConfigError, OutputError
from server.rounds.unlearning.methods import SIMULATED, campaign_method
from simulations.comparison.world import forgetting_copy, in_federation, make_world
from simulations.run.experiment import OnProgress
from simulations.run.prepare import require_writable
from simulations.run.run_result import versions
from simulations.stream.record import (
    RECORD_FILE,
    SeedRecord,
    StreamRecord,
    read_record,
    write_record,
)
from simulations.stream.seed_stream import Say, Stream
from simulations.stream.settings import StreamConfig


def prepare_folder(config: StreamConfig, out: Path, command: str = "") -> StreamRecord:
    """Make `out` the folder of a stream, or read back its record; the number of seeds may differ.

    Raises:
        ConfigError: the method cannot be used in a stream.
        OutputError: the folder holds a stream with other settings.
    """
    method = config.run.experiment.unlearn.method
    campaign_method(method)

    if method in SIMULATED:
        raise ConfigError(
            f"{method} replays the training, and the model of a campaign has none", where="unlearn.method",
            remedy="use another method",
        )  # fmt: skip

    require_writable(out)
    now = config.model_dump(mode="json")

    if (out / RECORD_FILE).exists():
        earlier = read_record(out)
        # Seeds may be added: each has a federation of its own.
        changes = sorted(name for name in now if name != "seeds" and earlier.config.get(name) != now[name])

        if changes:
            raise OutputError(
                f"holds a stream with another {changes[0]}", where=str(out), remedy="choose another --out"
            )

        return earlier.model_copy(update={"config": now, "command": command})

    return StreamRecord(command=command, config=now, versions=versions())


def run_stream(config: StreamConfig, out: Path, say: Say, on_progress: OnProgress, command: str = "") -> StreamRecord:
    """Run the missing campaigns; write `stream.json` after every campaign and every retraining.

    `command` is shown in the report for readers who want to repeat it.

    Raises:
        InputError: settings, data or folder.
        FedForgetError: a campaign failed; earlier results stay.
    """
    record = prepare_folder(config, out, command)

    for seed in range(config.first_seed, config.first_seed + config.seeds):
        earlier = record.of(seed)
        if earlier is not None and earlier.finished:
            continue

        def keep(progress: SeedRecord) -> None:
            nonlocal record
            record = record.having(progress)
            write_record(out, record)

        folder = out / f"seed-{seed}"
        world = make_world(config.run, seed, folder / "world", None, lambda *at: on_progress("images", *at))
        stream = Stream(config, world, folder, keep, say, on_progress, earlier)
        # A copy: hospitals delete patients who revoke, and the auditor still reads all patients of the world.
        forgetting_copy(world, stream.folder, {})
        in_federation(world, stream.folder / "sites", stream.run)

    write_record(out, record)

    return record
