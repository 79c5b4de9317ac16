"""Tunes a method: tries its settings on forget sets of the tuning federation and keeps the best."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.files import write_text
from server.campaign.campaign import collect
from server.campaign.candidate import make_candidate
from server.rounds.aggregation import State
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.selection import select
from server.rounds.unlearning.base import Past
from simulations.comparison.job_context import JobContext, digest
from simulations.comparison.plan import ORIGINAL
from simulations.comparison.tuning import Setting, Trial, Tuned, judges, settings_to_try, tuning_score
from simulations.comparison.world import World, forgetting_copy, in_federation, open_world


@dataclass(slots=True)
class _Draw:
    """Results of the settings tried on one forget set, in order, and the forward units it may spend."""

    budget: float = 0.0
    units: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def tune(context: JobContext, method: str) -> Tuned:
    """Try a method's settings until its share of the budget is spent, or read an earlier result with equal settings."""
    tuning = context.config.tuning
    file = context.out / "tuning" / f"{method}.json"
    own_digest = digest(context.shared_settings(), tuning.model_dump(mode="json"), method)

    if file.exists():
        earlier = Tuned.model_validate_json(file.read_bytes())
        if earlier.digest == own_digest:
            return earlier

    world = open_world(context.config.run, tuning.seed, context.world_folder(tuning.seed))
    folder = context.out / "work" / f"tuning-{method}"
    settings = settings_to_try(tuning, method)
    draws = list[_Draw]()

    for number in range(tuning.draws):
        draws.append(_draw(context, world, folder / f"draw-{number}", method, settings, number))
        # The first draw decides how many settings the budget allows; the others try the same ones.
        settings = settings[: len(draws[0].scores)]

    trials = tuple(
        Trial(
            setting=setting,
            score=float(np.mean([draw.scores[at] for draw in draws])),
            forward_units=sum(draw.units[at] for draw in draws),
        )
        for at, setting in enumerate(settings)
    )
    result = Tuned(method=method, allowed=sum(draw.budget for draw in draws), trials=trials, digest=own_digest)
    write_text(file, result.model_dump_json(indent=2) + "\n")
    shutil.rmtree(folder)

    return result


def _draw(
    context: JobContext, world: World, folder: Path, method: str, settings: Sequence[Setting], number: int
) -> _Draw:
    """Try settings on one forget set until its part of the budget is spent, and score them."""
    tuning = context.config.tuning
    seed = world.experiment.seed
    forget = world.forget_sets((tuning.size,), draw=number)[tuning.size]
    draw = _Draw()
    states = list[State]()

    def unlearn(federation: Federation) -> None:
        original, cost = context.train_original(world, federation)
        # In forward units: seconds would depend on what else runs on the machine.
        draw.budget = tuning.budget * cost.forward_units / tuning.draws
        counts = collect(federation)
        past = Past(world.card, world.initial(), original.rounds, world.training_seed(ORIGINAL))

        for at, setting in enumerate(settings):
            # The preset itself is always tried, and draws after the first try as many settings as the first.
            if at and sum(draw.units) >= draw.budget and not number:
                return

            context.in_time()
            candidate = make_candidate(
                federation,
                original.state,
                counts,
                context.experiment(world, method, context.config.aggregations[0], setting),
                journal=MemoryJournal(),
                folder=folder / f"trial-{at}",
                on_round=lambda _: None,
                past=past,
            )
            states.append(candidate.state)
            draw.units.append(candidate.unlearn_cost.forward_units + candidate.retain_cost.forward_units)

    def judge(federation: Federation) -> None:
        original, _ = context.train_original(world, federation)
        before = select(federation, original.state, seed)
        draw.scores += [tuning_score(select(federation, state, seed), before) for state in states]

    # Scored in a copy with another split: methods are fitted on the calibration patients of the first.
    forgetting_copy(world, folder, forget)
    in_federation(world, folder / "sites", unlearn)
    forgetting_copy(world, folder / "judges", forget, judges)
    in_federation(world, folder / "judges" / "sites", judge)

    return draw
