"""How far honest sites move the weights: the calibration runs behind the bounds of the update gate.

`python -m simulations.bench.power.delta_norms --preset hospitals` trains at made-up hospitals, has the first one
unlearn with every method and weighting, and prints the largest norms. Run it with your own manifest and settings before
you narrow `[gate]` in `server.toml`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median_high
from typing import Annotated

import torch
import typer

from client.cohort.site import Site
from common.learning.config import UnlearnConfig
from common.learning.unlearning.forget_mi import WEIGHTINGS
from common.learning.unlearning.methods import METHODS
from common.protocol.messages import TrainRequest, UnlearnRequest
from server.rounds.aggregation import RunningMean, State, shares
from server.rounds.weights.walk import Step, measure
from simulations.run.prepare import prepare
from simulations.run.settings import SimulationConfig, load_settings

WEIGHTED = ("forget_mi_calibrated", "forget_mi_paper")
"""The methods that have weightings; the others are run once."""


def train(sites: list[Site], state: State, config: SimulationConfig, rounds: int) -> Iterator[tuple[State, list[Step]]]:
    """Rounds of FedAvg; after each the new weights and the sites' steps."""
    weights = shares({site.name: site.status().retain_studies for site in sites})
    settings = config.experiment.train

    for number in range(rounds):
        mean = RunningMean()
        steps = []

        for site in sites:
            request = TrainRequest(
                config=settings, epochs=settings.local_epochs, round=number, seed=config.experiment.seed
            )
            after = site.train(state, request)[0].state_dict()
            steps.append(measure(after, state))
            mean.add(after, weights[site.name])

        state = mean.result(state)
        yield state, steps


def unlearn(site: Site, state: State, config: UnlearnConfig, seed: int) -> Step:
    """One site's step."""
    model, _ = site.unlearn(state, UnlearnRequest(config=config, seed=seed))
    return measure(model.state_dict(), state)


def main(
    preset: Annotated[str, typer.Option(help="Name or path of a preset.")] = "hospitals",
    rounds: Annotated[int, typer.Option(help="Rounds of training before anybody revokes.")] = 15,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 2,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="Any setting, as train.lr=1e-3.")] = None,
) -> None:
    """Print the norms of training and unlearning steps of honest sites."""
    torch.set_num_threads(1)

    for seed in range(seeds):
        config = load_settings(preset, [*(assignments or []), f"seed={seed}"], {})
        with tempfile.TemporaryDirectory() as folder:
            preparation = prepare(config, Path(folder), lambda *_: None)
            sites = [Site(preparation.site_folder(name)) for name in preparation.sites]
            state = preparation.card.build(seed).state_dict()

            for number, (after, steps) in enumerate(train(sites, state, config, rounds)):
                largest = max(step.norm for step in steps)
                typer.echo(
                    f"seed {seed} round {number}: relative {max(s.relative for s in steps):.3f}, "
                    f"largest {largest / median_high(s.norm for s in steps):.2f} of the median"
                )
                state = after

            for name, patients in preparation.forget.items():
                site = Site(preparation.site_folder(name))
                site.revoke(patients)

                for method in METHODS:
                    for weighting in WEIGHTINGS if method in WEIGHTED else ("equal",):
                        settings = config.experiment.unlearn.model_copy(
                            update={"method": method, "weighting": weighting}
                        )
                        step = unlearn(site, state, settings, seed)
                        typer.echo(
                            f"seed {seed} {method} {weighting}: {len(patients)} patients, relative {step.relative:.3g}"
                        )


if __name__ == "__main__":
    typer.run(main)
