"""What a round costs a hospital, by a profiler: `python -m simulations.bench.client_round`."""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from client.app import app, open_site
from common.learning.config import TrainConfig
from common.protocol.messages import TRAIN, TrainRequest
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from simulations.run.local_grid import LocalGrid
from simulations.run.prepare import prepare
from simulations.run.settings import load_settings

PARTS: Mapping[str, tuple[str, str]] = {
    "forward, backward and optimizer": ("common/learning/training.py", "fit"),
    "evaluation of the received model": ("client/cohort/scores/site_scoring.py", "select"),
    "opening the site: cohort, tokenizer, ledger": ("client/app.py", "open_site"),
    "building the model and loading the weights": ("client/cohort/site.py", "_load"),
    "studies to train on": ("client/cohort/site_data.py", "to_learn"),
    "record of who was used": ("client/cohort/site_records.py", "used"),
    "decoding and keeping the received weights": ("client/cohort/received_weights.py", "receive"),
    "encoding the answer": ("client/cohort/received_weights.py", "answer"),
}
ROUNDS = 3


def seconds(stats: pstats.Stats) -> dict[str, float]:
    """Seconds a round of each part, with all that it calls."""
    calls: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]] = stats.stats  # type: ignore[attr-defined]
    totals = dict.fromkeys(PARTS, 0.0)

    for (file, _, name), row in calls.items():
        for label, (place, function) in PARTS.items():
            if file.endswith(place) and name == function:
                totals[label] += row[3] / ROUNDS

    return totals


def main() -> None:
    """One table, of processor time."""
    torch.set_num_threads(1)
    settings = ["data.image_size=64", "data.max_tokens=64"]
    config = load_settings(None, settings, {"forget": 1, "hospitals": {"sites": 2, "patients": 100}})

    with tempfile.TemporaryDirectory() as folder:
        preparation = prepare(config, Path(folder), lambda *_: None)
        name = preparation.sites[0]
        federation = connect(LocalGrid(app, {1: {"site-dir": str(preparation.site_folder(name))}}), 1)
        federation.downlink = Downlink("fp16")
        state = federation.downlink.start(preparation.card.build().state_dict())
        profile = cProfile.Profile(time.process_time)

        for number in range(ROUNDS + 1):
            # A real hospital has a process for each message.
            open_site.cache_clear()
            request = TrainRequest(config=TrainConfig(), epochs=1, round=number, seed=0)
            # The first round is not counted: it fills the caches.
            if number:
                profile.enable()
            for _ in federation.ask(TRAIN, request, state, [name]):
                pass
            profile.disable()

    timings = seconds(pstats.Stats(profile))
    lines = ["| part of a round at one hospital, one epoch | ms of processor time, under the profiler |", "|---|---|"]
    lines += [f"| {label} | {1000 * value:.0f} |" for label, value in sorted(timings.items(), key=lambda p: -p[1])]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
