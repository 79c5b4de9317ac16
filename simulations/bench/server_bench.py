"""What a hospital's reply costs the coordinator: `python -m simulations.bench.server_bench`; a part of `make bench`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import Tensor

from common.learning.config import DataConfig, ModelConfig, Precision
from common.learning.model.card import ModelCard
from common.protocol.array_bytes import to_record
from common.protocol.deltas import Decoded, encode
from common.protocol.messages import TRAIN, TrainReply
from common.protocol.wire import arrays_of, pack
from server.rounds.aggregation import RunningMean
from server.rounds.checks.update_gate import UpdateGate
from server.rounds.weights.conflicts import DeltaSpool
from server.settings import GateConfig
from simulations.bench import old_walk

SITES = 8
RUNS = 3
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")
State = dict[str, Tensor]


def model(weights: int) -> State:
    """The default model with a vocabulary that brings it to so many weights; beyond that, with one large layer."""
    card = ModelCard(model=ModelConfig(), data=DataConfig(), classes=("a", "b", "c", "d"), vocab_size=3115)
    state = card.build().state_dict()
    missing = weights - sum(tensor.numel() for tensor in state.values())

    return {**state, "large": torch.randn(missing) * 0.05} if missing > 0 else dict(state)


def moved(state: Mapping[str, Tensor], seed: int) -> State:
    """Every weight a little away, as after an epoch of AdamW."""
    draw = torch.Generator().manual_seed(seed)
    return {
        n: t + 1e-3 * torch.randn(t.shape, generator=draw) if t.is_floating_point() else t for n, t in state.items()
    }


def replies(before: State, precision: Precision) -> list[RecordDict]:
    """As they come from the sites."""
    body = TrainReply(site="north", loss=1.0, cost=1.0, seconds=1.0)
    return [pack(body, encode(moved(before, seed), before, precision)[0]) for seed in range(SITES)]


def median_seconds(work: Callable[[], object]) -> float:
    """Processor time of several runs, after one that warms up: others may use the machine meanwhile."""
    work()
    times = []
    for _ in range(RUNS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)

    return sorted(times)[RUNS // 2]


def read_now(before: State, messages: list[RecordDict]) -> State:
    """Ungroup, decode, check, add: what a round does with its replies."""
    gate = UpdateGate(GateConfig(), lambda *_: None, lambda _: None)
    mean = RunningMean()
    for number, records in enumerate(messages):
        walk = partial(mean.take, share=1 / SITES)
        if not gate(f"site-{number}", TRAIN, before, Decoded(arrays_of(records), before), walk):
            raise RuntimeError

    return mean.result(before)


def read_before(before: State, messages: list[RecordDict]) -> State:
    """The same by version 0.2."""
    total = {name: torch.zeros(tensor.numel(), dtype=torch.int64) for name, tensor in before.items()}
    for records in messages:
        after = old_walk.OldReply(arrays_of(records), before)
        old_walk.check(after, before)
        old_walk.add(total, after, 1 / SITES)

    weight = SITES * round(2.0**40 / SITES)
    return {name: (total[name].double() / weight).to(t.dtype).reshape(t.shape) for name, t in before.items()}


def add_plain(states: list[dict[str, np.ndarray]]) -> None:
    """NumPy, adding arrays that lie in memory, with no check."""
    total = {name: np.zeros_like(values) for name, values in states[0].items()}
    for state in states:
        for name, values in state.items():
            total[name] += values * np.float32(1 / SITES)


def bench_replies() -> list[str]:
    """Nanoseconds of processor time a weight of one reply, in one process."""
    lines = [
        f"| one reply of {SITES}, ns a weight | 0.39 M weights | 2 M weights |",
        "|---|---|---|",
    ]
    rows: dict[str, list[float]] = {}

    for weights in (390_000, 2_000_000):
        before = model(weights)
        each = 1e9 / (SITES * sum(tensor.numel() for tensor in before.values()))

        for precision in PRECISIONS:
            messages = replies(before, precision)
            now = read_now(before, messages)
            then = read_before(before, messages)
            # Both must give the same bits, or their times do not compare.
            if not all(torch.equal(now[name], then[name]) for name in before):
                raise RuntimeError
            for label, read in (("version 0.2", read_before), ("**now**", read_now)):
                seconds = median_seconds(partial(read, before, messages))
                rows.setdefault(f"{precision}: decode, check and add, {label}", []).append(seconds * each)
            del messages

        states = [moved(before, seed) for seed in range(SITES)]
        plain = [{name: tensor.numpy() for name, tensor in state.items()} for state in states]
        rows.setdefault("NumPy adds the same arrays, from memory, unchecked", []).append(
            median_seconds(partial(add_plain, plain)) * each
        )
        records = [
            RecordDict({"arrays": to_record(s.items()), "metrics": MetricRecord({"num-examples": 1})}) for s in states
        ]
        rows.setdefault("Flower's `aggregate_arrayrecords`, fp32, unchecked", []).append(
            median_seconds(partial(aggregate_arrayrecords, records, "num-examples")) * each
        )

    lines += [f"| {label} | {small:.1f} | {large:.1f} |" for label, (small, large) in rows.items()]
    return [*lines, ""]


def bench_scaled() -> list[str]:
    """Seconds to make one change of the deltas of k sites, from the spool on disk."""
    before = model(390_000)
    lines = [
        "| `scaled`, deltas of 0.39 M weights | add all, s | project and sum, s | version 0.2, s |",
        "|---|---|---|---|",
    ]

    for count in (8, 32, 128):
        after = [moved(before, seed) for seed in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            adding, applying = [], []
            for _ in range(3):
                spool = DeltaSpool(Path(folder))
                begin = time.process_time()
                for number, state in enumerate(after):
                    spool.add(f"site-{number:03}", before, state)
                adding.append(time.process_time() - begin)
                begin = time.process_time()
                spool.apply(before)
                applying.append(time.process_time() - begin)

        old = "not run"
        # Every pair of sites is compared: at 128 sites it would take minutes.
        if count <= 32:
            begin = time.process_time()
            for name, tensor in before.items():
                old_walk.project_conflicts([state[name] - tensor for state in after])
            old = f"{time.process_time() - begin:.2f}"
        lines.append(f"| k = {count} | {sorted(adding)[1]:.2f} | **{sorted(applying)[1]:.2f}** | {old} |")

    return [*lines, ""]


def main() -> None:
    """Both tables."""
    torch.set_num_threads(1)
    sys.stdout.write("\n".join(bench_replies() + bench_scaled()) + "\n")


if __name__ == "__main__":
    main()
