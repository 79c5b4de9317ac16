"""What a round costs a hospital beyond forward and backward: `python -m simulations.bench.client_round`.

Each message has a process of its own, in which much is called for the first time. So each part is timed in processes
that are forked as a ClientApp is, a fresh one for each message; the table gives medians. The first column is that of
processes that import FedForget themselves, as all did before it was loaded by their parent.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file

from client.runtime import clientapp
from common.platform.processes import forked
from simulations.bench import round_process
from simulations.run.prepare import prepare
from simulations.run.settings import load_settings

MESSAGES = 7
"""Of each kind, taken in turns."""


def table(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> list[str]:
    """Medians of each part in ms, the largest first, and what the two have to do with each other."""
    rows = []
    for part in (round_process.STARTING, *round_process.PARTS):
        old, new = (1000 * statistics.median(one.get(part, 0.0) for one in runs) for runs in (before, now))
        rows.append((old, f"| {part} | {old:.1f} | {new:.1f} | {new / old:.2f} |"))

    lines = ["| part of a message of training | ms before | ms now | ratio |", "|---|---|---|---|"]
    return lines + [line for _, line in sorted(rows, reverse=True)]


def main() -> None:
    """One table, of processor time."""
    settings = ["data.image_size=64", "data.max_tokens=64"]
    config = load_settings(None, settings, {"forget": 1, "hospitals": {"sites": 2, "patients": 100}})
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}

    with tempfile.TemporaryDirectory() as folder:
        preparation = prepare(config, Path(folder), lambda *_: None)
        site = preparation.site_folder(preparation.sites[0])
        weights, report = Path(folder) / "weights", Path(folder) / "report"
        save_file(preparation.card.build().state_dict(), weights)
        clientapp.prepare()

        for turn in range(2 * (MESSAGES + 1)):
            inherits = turn % 2 == 1
            forked.start(round_process.handle, str(site), str(weights), str(report), inherits).join()
            if turn > 1:  # the first two find no file in the system's cache
                runs[inherits].append(json.loads(report.read_text(encoding="utf-8")))
            report.unlink()

    sys.stdout.write("\n".join(table(runs[False], runs[True])) + "\n")


if __name__ == "__main__":
    main()
