"""What exact forgetting costs: twenty patients of the real set revoke one after another. `make study-exact`.

Each revocation trains heads and fusion again from the first weights. The cost of each stands beside that of training
the same federation once with encoders that are trained: one round of it is measured, times the rounds of the former.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flwr.serverapp import Grid

from client.app import open_site
from client.cohort.site import Site
from common.files import write_text
from common.learning.config import ModelConfig
from common.learning.model.checkpoint import State, state_digest
from common.learning.records import Subset
from server.campaign.campaign import run_campaign
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import Trained, train
from server.rounds.unlearning.base import Past
from simulations.run.engine import run_on
from simulations.run.prepare import Prepared, prepare
from simulations.run.settings import SimulationConfig, load_settings

REVOCATIONS = 20
ONE_BY_ONE = ("campaign.retention_rounds=0", "forget=1")
"""On top of the preset: nobody has revoked before the first training but one, whom the preparation asks for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one training or one campaign."""

    seconds: float
    """Processor time of coordinator and hospitals together."""
    bytes: int
    rounds: int


def measured(federation: Federation, work: Callable[[], int]) -> Cost:
    """The cost of `work`, which returns its rounds."""
    federation.meter = Meter()
    begin = time.process_time()
    rounds = work()

    return Cost(time.process_time() - begin, federation.meter.bytes_up + federation.meter.bytes_down, rounds)


def learn(federation: Federation, prepared: Prepared, config: SimulationConfig, folder: Path) -> Trained:
    """The first training."""
    experiment = config.experiment
    initial = prepared.card.build(experiment.seed).state_dict()
    return train(
        federation, initial, experiment.train, prepared.card, seed=experiment.seed, folder=folder, on_round=_silent
    )


def _silent(_: object) -> None:
    """Nobody watches."""


def in_federation(prepared: Prepared, config: SimulationConfig, main: Callable[[Federation], None]) -> None:
    """Call `main` with the prepared hospitals, in this process."""

    def with_grid(grid: Grid) -> None:
        federation = connect(grid, len(prepared.sites))
        federation.downlink = Downlink(config.experiment.wire.precision, prepared.card.frozen_names())
        main(federation)

    open_site.cache_clear()
    run_on("inprocess", with_grid, sites_folder=prepared.folder / "sites", sites=len(prepared.sites))
    open_site.cache_clear()


def exactly(config: SimulationConfig, folder: Path, count: int) -> tuple[list[Cost], list[Cost]]:
    """Costs of two first trainings, of which the first one fills the caches of embeddings, and of each revocation."""
    preparation = prepare(config, folder, _two)
    first: list[Cost] = []
    each: list[Cost] = []

    def main(federation: Federation) -> None:
        experiment = config.experiment
        model: list[Trained] = []
        for turn in range(2):
            model.clear()
            begin = partial(_learned, federation, preparation, config, folder, turn, model)
            first.append(measured(federation, begin))
            sys.stderr.write(f"first training: {first[-1]}\n")

        past = Past(
            preparation.card, preparation.card.build(experiment.seed).state_dict(), model[0].rounds, experiment.seed
        )
        current: State = model[0].state

        for number in range(count):
            site = Site(preparation.site_folder(preparation.sites[number % len(preparation.sites)]))
            site.revoke(sorted(site.patients(Subset.TRAIN))[:1])
            open_site.cache_clear()
            after: list[State] = []

            def forget(number: int = number, current: Mapping = current, after: list[State] = after) -> int:  # type: ignore[type-arg]
                campaign = run_campaign(
                    federation, current, experiment, journal=MemoryJournal(), folder=folder / f"exact-{number}",
                    on_round=_silent, past=past,
                )  # fmt: skip
                after.append(campaign.state)
                return len(campaign.rounds)

            each.append(measured(federation, forget))
            # A revocation that changed nothing would count as the cheapest of all.
            if state_digest(after[0]) == state_digest(current):
                raise RuntimeError
            current = after[0]
            sys.stderr.write(f"revocation {number + 1}: {each[-1]}\n")

    in_federation(preparation, config, main)
    return first, each


def _learned(
    federation: Federation, prepared: Prepared, config: SimulationConfig, folder: Path, turn: int, model: list[Trained]
) -> int:
    model.append(learn(federation, prepared, config, folder / f"first-{turn}"))
    return len(model[0].rounds)


def _two(*_: object) -> None:
    """No progress is shown."""


def whole_round(config: SimulationConfig, folder: Path) -> Cost:
    """One round in which the encoders are trained as well."""
    model = ModelConfig.model_validate({**config.experiment.model.model_dump(), "frozen": "none"})
    one = config.experiment.train.model_copy(update={"rounds": 1})
    experiment = config.experiment.model_copy(update={"model": model, "train": one})
    config = config.model_copy(update={"experiment": experiment})
    preparation = prepare(config, folder, _two)
    costs: list[Cost] = []
    in_federation(
        preparation,
        config,
        lambda federation: costs.append(
            measured(federation, lambda: len(learn(federation, preparation, config, folder / "whole").rounds))
        ),
    )

    return costs[0]


def table(first: list[Cost], each: list[Cost], whole: Cost) -> str:
    """As Markdown."""
    rounds = first[1].rounds - 1
    seconds, sent_bytes = whole.seconds * rounds, whole.bytes * rounds
    lines = [
        "# Twenty exact revocations in a row",
        "",
        "Command: `make study-exact`. The real set of 286 studies, three hospitals, frozen MiniLM and",
        "EfficientNet-Lite0 with their embeddings cached, fp32 on the wire, all in one process on one core.",
        "Settings are those of the preset `frozen`: 256 tokens, at most 40 rounds. Seconds are processor time of",
        "coordinator and hospitals together. A revocation: training, selection in each round, and two audits.",
        "",
        f"Training the same federation once with encoders that are trained too: {whole.seconds:.0f} s and "
        f"{whole.bytes / 1e6:.0f} MB for one measured round with its evaluation, times {rounds} rounds: "
        f"**{seconds:.0f} s** and {sent_bytes / 1e6:.0f} MB.",
        "",
        "| what | seconds | MB on the wire | share of that time | share of those bytes |",
        "|---|---|---|---|---|",
    ]
    rows = [
        ("first training, encoding each study once", first[0]),
        ("first training, from the cache", first[1]),
        *((f"revocation {number}", cost) for number, cost in enumerate(each, start=1)),
    ]
    for name, cost in rows:
        shares = f"{cost.seconds / seconds:.2%} | {cost.bytes / sent_bytes:.2%}"
        lines.append(f"| {name} | {cost.seconds:.1f} | {cost.bytes / 1e6:.1f} | {shares} |")
    mean = sum(cost.seconds for cost in each) / len(each)
    lines.append(f"| **mean revocation** | **{mean:.1f}** | | **{mean / seconds:.2%}** | |")

    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(prog="python -m simulations.run.frozen.exact_cost")
    parser.add_argument("--write", type=Path, help="Markdown file")
    parser.add_argument("--revocations", type=int, default=REVOCATIONS)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_settings("frozen", [*ONE_BY_ONE, *arguments.set], {}, method="exact")

    with tempfile.TemporaryDirectory() as folder:
        whole = whole_round(config, Path(folder) / "whole")
        sys.stderr.write(f"one round with trained encoders: {whole}\n")
        first, each = exactly(config, Path(folder) / "frozen", arguments.revocations)

    text = table(first, each, whole)
    if arguments.write:
        write_text(arguments.write, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
