"""One message of training in a ClientApp's process, fresh from the fork server, with the CPU time of its parts."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTING = "starting: FedForget's modules"
PARTS: dict[str, tuple[str, str]] = {
    "forward, backward and optimizer": ("client.cohort.site", "fit"),
    "evaluation of the received model": ("client.cohort.site", "select"),
    "opening the site: cohort, tokenizer, ledger": ("client.app", "open_site"),
    "building the model and loading the weights": ("client.cohort.site", "Site._load"),
    "studies to train on": ("client.cohort.site_data", "SiteData.to_learn"),
    "decoding and keeping the received weights": ("client.cohort.received_weights", "ReceivedWeights.receive"),
    "encoding the answer": ("client.cohort.received_weights", "ReceivedWeights.answer"),
}


def handle(site: str, weights: str, report: str, inherits: bool) -> None:
    """Train one round at `site` on `weights`, and write the seconds of each part to `report`.

    Without `inherits`, FedForget is imported by the process itself, as every ClientApp did before.
    """
    from common.platform.processes import own_code  # noqa: PLC0415 - where it is dropped, nothing of ours may be held

    seconds: defaultdict[str, float] = defaultdict(float)
    own_code.keep_or_drop(keep=inherits)
    begin = time.process_time()
    importlib.import_module("client.app")
    importlib.import_module("client.cohort.site")
    seconds[STARTING] = time.process_time() - begin

    _send(Path(site), Path(weights), seconds)
    Path(report).write_text(json.dumps(seconds), encoding="utf-8")


def _send(site: Path, weights: Path, seconds: defaultdict[str, float]) -> None:
    import torch  # noqa: PLC0415 - as above
    from safetensors.torch import load_file  # noqa: PLC0415 - as above

    from client.app import app  # noqa: PLC0415 - as above
    from common.learning.config import TrainConfig  # noqa: PLC0415 - as above
    from common.protocol.messages import TRAIN, TrainRequest  # noqa: PLC0415 - as above
    from server.rounds.exchanges.downlink import Downlink  # noqa: PLC0415 - as above
    from server.rounds.federation import Federation  # noqa: PLC0415 - as above
    from simulations.run.local_grid import LocalGrid  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    federation = Federation(LocalGrid(app, {1: {"site-dir": str(site)}}), {site.name: 1}, names_known=False)
    federation.downlink = Downlink("fp16")
    state = federation.downlink.start(load_file(weights))
    for label, (module, name) in PARTS.items():
        _time(importlib.import_module(module), name, label, seconds)

    request = TrainRequest(config=TrainConfig(), epochs=1, round=0, seed=os.getpid())
    for _ in federation.ask(TRAIN, request, state, [site.name]):
        pass


def _time(owner: Any, name: str, label: str, seconds: defaultdict[str, float]) -> None:
    """Add the CPU time of each call of a function to `seconds`."""
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    work: Callable[..., Any] = getattr(owner, last)

    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.process_time()
        try:
            return work(*arguments, **named)
        finally:
            seconds[label] += time.process_time() - begin

    setattr(owner, last, timed)
