"""What the check of consents costs a training epoch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binom

from client.cohort.site import Site
from client.cohort.site_consent import SiteConsent
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.settings import SiteFolder
from common.learning.data.tensors import StudyTensors
from common.learning.micro_batches import forward
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from simulations.run.prepare import prepare
from simulations.run.settings import load_settings

WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Paired:
    """The median of paired differences, in seconds, with an interval of at least 95 %."""

    median: float
    low: float
    high: float

    def share(self, whole: float) -> str:
        """In per cent of `whole`."""
        low, middle, high = (100 * each / whole for each in (self.low, self.median, self.high))
        return f"{middle:.2f} % ({low:.2f} to {high:.2f})"


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """`after` less `before`, pair by pair.

    The interval lies between two of the ordered differences, by the sign test, which assumes no distribution:
    https://en.wikipedia.org/wiki/Sign_test
    """
    differences = sorted(b - a for a, b in zip(before, after, strict=True))
    outside = max(int(binom.ppf(0.025, len(differences), 0.5)) - 1, 0)
    return Paired(statistics.median(differences), differences[outside], differences[-1 - outside])


def bench_loader(folder: Path, epochs: int) -> str:
    """Compare an epoch of the training loader with and without a look at the ledger before every batch.

    Three loaders read the same studies in the same order: with the ledger, without, and without again, which shows the
    error of the measurement. Their order rotates, so that other load on the machine affects all of them. CPU time is
    measured, because waiting for other processes takes much longer than the difference.
    """
    torch.set_num_threads(1)
    settings = ["data.image_size=224"]
    hospitals = {"sites": 2, "patients": 96, "image_size": 256}
    config = load_settings(None, settings, {"forget": 6, "hospitals": hospitals})
    preparation = prepare(config, folder, lambda *_: None)
    place = preparation.site_folder(preparation.sites[0])
    site = Site(place)

    with open_ledger(SiteFolder(place)) as ledger:
        request = Request(Source("list", "many"), "many", ledger.clock())
        # One patient is in the cohort, so that every batch is compared with the stopped patients.
        patients = [min(site.patients(Subset.VALIDATION)), *(f"stranger-{number}" for number in range(1000))]
        ledger.record(request, patients, also_unknown=True)

    studies = site.cohort.of(site.patients(Subset.TRAIN)).studies
    asks = (None, SiteConsent(SiteFolder(place), site.cohort.patients).stopped, None)
    without, with_ledger, again = _in_turns(
        [StudyTensors(studies, site.cache, site.tokenizer, each) for each in asks], epochs
    )
    training = _training_epoch(preparation.card.build(), StudyTensors(studies, site.cache, site.tokenizer))
    overhead = paired(without, with_ledger)
    itself = paired(without, again)
    whole = statistics.median(without)

    return f"""The ledger is asked before every batch that weights learn from, a thousand tombstones on the disk. The
same epoch of {len(studies)} studies of 224 x 224 in batches of 16, {epochs} times with the ledger and {epochs} times
without, in turns; time of one core, medians of the paired differences with intervals of 95 %. The aim is under 2 %.

| what the ledger adds | |
|---|---|
| to an epoch | {1e6 * overhead.median:.0f} us ({1e6 * overhead.low:.0f} to {1e6 * overhead.high:.0f}) |
| of what the loader alone takes to copy it from the image cache ({1000 * whole:.1f} ms) | {overhead.share(whole)} |
| of an epoch of training the smallest model ({training:.1f} s) | {overhead.share(training)} |
| the measure itself: the loader without the ledger, against the same once more | {itself.share(whole)} |
"""


def _in_turns(loaders: Sequence[StudyTensors], epochs: int) -> list[list[float]]:
    """CPU seconds of every epoch of each loader; their order rotates."""
    took: list[list[float]] = [[] for _ in loaders]

    for epoch in range(-WARM_UP, epochs):
        for turn in range(len(loaders)):
            which = (epoch + turn) % len(loaders)
            # Every loader sees the same order of studies in an epoch.
            rng = np.random.default_rng(abs(epoch))
            begin = time.thread_time()
            for _batch in loaders[which].shuffled(16, torch.device("cpu"), rng):
                pass
            if epoch >= 0:
                took[which].append(time.thread_time() - begin)

    return took


def _training_epoch(model: ImageTextModel, studies: StudyTensors) -> float:
    """CPU seconds of one epoch of forward and backward passes."""
    begin = time.thread_time()
    for batch in studies.shuffled(16, torch.device("cpu"), np.random.default_rng(0)):
        torch.autograd.backward(forward(model, batch).logits.sum())
    return time.thread_time() - begin
