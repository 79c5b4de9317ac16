"""`make bench`: what the design decisions buy, as ratios within one run.

The baseline of the first benchmark is written after the description of the published loop (arXiv 2506.23145 and its
released code): the frozen model runs for every batch, and every image is read and decoded again for every batch.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.cohort.site import Site
from common.files import write_text
from common.learning.config import UnlearnConfig
from common.learning.data.imaging.images import fit, read_image
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.evaluation.figures import SiteFigures
from common.learning.evaluation.merge import merge
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, audit_figures
from common.learning.micro_batches import MicroBatches, forward
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.records import Subset
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.forget_mi import WEIGHTINGS, forget_mi_terms, noisy_copy, paper
from server.rounds.aggregation import RunningMean
from simulations.bench.embeddings_bench import bench_embeddings
from simulations.bench.server_bench import bench_replies, bench_scaled
from simulations.run.prepare import prepare
from simulations.run.settings import load_settings


def published_loop(model: ImageTextModel, sets: UnlearnSets, config: UnlearnConfig, size: int) -> int:
    """One pass as published: decode, teacher and student for each batch. Returns the studies that went through."""
    teacher = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    micro = MicroBatches(model)
    rng = np.random.default_rng(0)
    device = torch.device("cpu")
    row_count = 0
    kept_rows = rng.permutation(len(sets.retain)).astype(np.int64)

    for at, forget in enumerate(sets.forget.shuffled(config.batch, device, rng)):
        # Retain studies wrap around where the batches need more than there are.
        rows = np.take(kept_rows, range(at * config.batch, (at + 1) * config.batch), mode="wrap")
        forget_batch = _decoded(sets.forget, forget.rows, size)
        retain_batch = _decoded(sets.retain, rows, size)
        with torch.no_grad():
            frozen_forget = forward(teacher, noisy_copy(forget_batch, sets.forget, config, at)).embeddings
            frozen_retain = forward(teacher, retain_batch).embeddings

        everything = torch.ones(3, len(forget_batch))

        def loss_of(
            outputs: Sequence[Outputs],
            of_forget: Tensor = frozen_forget,
            of_retain: Tensor = frozen_retain,
            everything: Tensor = everything,
        ) -> Tensor:
            terms = forget_mi_terms(outputs[0].embeddings, of_forget, outputs[1].embeddings, of_retain, everything)
            return terms.loss(WEIGHTINGS[config.weighting])

        micro.step(optimizer, [forget_batch, retain_batch], loss_of, config.clip)
        row_count += len(forget_batch) + len(retain_batch)

    return row_count


def _decoded(studies: StudyTensors, rows: np.ndarray, size: int) -> Batch:
    batch = studies.batch(rows, torch.device("cpu"))
    # Read and decoded anew for every batch: this is what the cache saves.
    pixels = np.stack([fit(read_image(studies.studies[row].image), size) for row in rows])
    return Batch(torch.from_numpy(pixels)[:, None].float() / 255, batch.tokens, batch.mask, batch.labels, rows)


def bench_epoch(folder: Path) -> list[str]:
    """Studies per second of a Forget-MI epoch, ours against the published loop, on full-size DICOM files."""
    settings = ["data.image_size=64", "model.width=4", "model.text_layers=1"]
    # A small model on large pictures: the bench is about decoding and the frozen model's forwards.
    config = load_settings(None, settings, {"forget": 6, "hospitals": {"sites": 2, "patients": 24, "image_size": 1024}})
    preparation = prepare(config, folder, lambda *_: None)
    site = Site(preparation.site_folder(preparation.sites[0]))
    site.revoke(preparation.forget[preparation.sites[0]])
    forget, retain, calibration = (
        StudyTensors(site.cohort.of(patients).studies, site.cache, site.tokenizer)
        for patients in (site.forget, site.patients(Subset.TRAIN), site.patients(Subset.CALIBRATION))
    )
    sets = UnlearnSets(forget, retain, calibration)
    model = preparation.card.build()
    passes = 10
    ours = config.experiment.unlearn.model_copy(update={"passes": passes, "batch": 16, "retain_batch": 16})
    steps = -(-len(sets.forget) // 16)

    def run_ours() -> int:
        paper(copy.deepcopy(model), sets, ours, ranking_weight=0.1, seed=0, on_pass=nothing)
        return passes * (len(sets.forget) + steps * min(16, len(sets.retain)))

    def run_published() -> int:
        fresh = copy.deepcopy(model)
        return sum(published_loop(fresh, sets, ours, 64) for _ in range(2))

    fast = _per_second(run_ours)
    slow = _per_second(run_published)
    begin = time.monotonic()
    loads = 200
    for _ in range(loads):
        for _batch in sets.retain.in_order(16, torch.device("cpu")):
            pass

    images = loads * len(sets.retain) / (time.monotonic() - begin)

    return [
        "| benchmark | figure |",
        "|---|---|",
        f"| Forget-MI epoch, ours, 1024 x 1024 DICOM files, {passes} passes | {fast:.0f} studies/s |",
        f"| the same, published loop | {slow:.0f} studies/s |",
        f"| ratio | **{fast / slow:.1f}** (aim 5) |",
        f"| loader, from the image cache to batches of 16 | {images:.0f} images/s |",
    ]


def _per_second(work: Callable[[], int]) -> float:
    begin = time.monotonic()
    answer = work()
    return answer / (time.monotonic() - begin)


def bench_merge() -> list[str]:
    """Seconds to merge the audits of 100 sites."""
    rng = np.random.default_rng(0)

    def scores(patients: int) -> Scores:
        return Scores(rng.normal(size=(3, patients, 4)), rng.integers(0, 4, patients), np.arange(patients))

    parts: dict[str, SiteFigures] = {}
    for number in range(100):
        sets = AuditSets(scores(8), scores(40), scores(20), scores(20), scores(20))
        parts[f"site-{number:03d}"] = audit_figures(sets, 4, None, draws=50, rng=rng)

    begin = time.monotonic()
    merge(parts)

    return [f"| merging the audits of 100 sites | {(time.monotonic() - begin) * 1000:.0f} ms |"]


def server_peak(replies: int) -> int:
    """Growth of this process's peak memory, in MiB, while `replies` models of 40 MB are averaged as they come."""
    state = {"w": torch.zeros(10_000_000)}
    mean = RunningMean()
    # The first reply before the measurement: the sum itself is no growth by replies.
    mean.add(state, 1.0 / replies)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1, replies):
        mean.add({"w": torch.full((10_000_000,), float(number))}, 1.0 / replies)
    mean.result(state)

    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def bench_memory() -> list[str]:
    """Peak memory for 4, 16 and 64 replies, each in a process of its own."""
    lines = []

    for replies in (4, 16, 64):
        # The kernel's peak never falls within a process.
        process = subprocess.run(
            [sys.executable, "-m", "simulations.bench.bench", "--server-peak", str(replies)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak = json.loads(process.stdout)
        lines.append(f"| server, peak above the first reply, {replies} replies of 40 MB | {peak} MiB |")

    return lines


def main() -> None:
    """All benchmarks, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.bench")
    parser.add_argument("--write", type=Path, help="Markdown file")
    parser.add_argument("--server-peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server_peak:
        sys.stdout.write(json.dumps(server_peak(arguments.server_peak)))
        return

    # One thread, so that figures of machines with different numbers of cores can be compared.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = bench_epoch(Path(folder))
    lines += bench_merge() + bench_memory() + bench_embeddings()
    lines += ["", "## A hospital's reply", "", *bench_replies(), *bench_scaled()]
    where = f"One core, torch {torch.__version__}, Python {platform.python_version()}."
    head = f"# Benchmarks\n\nCommand: `make bench`. {where}\n"
    text = head + "\n" + "\n".join(lines) + "\n"
    if arguments.write:
        write_text(arguments.write, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
