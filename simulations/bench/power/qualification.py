"""How often the rule of a qualification passes what it must not pass, and what it should pass.

`python -m simulations.bench.power.qualification --write docs/results/qualification-power.md`
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from common.files import write_text
from common.learning.evaluation.qualification.plan import QualificationPlan
from simulations.bench.power.qualification_world import World, distances, share_qualified

PLAN = QualificationPlan()
TWICE = PLAN.model_copy(update={"attempts": 2})
FUSED = (0.5, 0.5, 0.6)
IMAGE = (0.6, 0.5, 0.5)
"""A branch on which Q5 is not asked."""

_INTRODUCTION = """# Size and power of a qualification

Command: `python -m simulations.bench.power.qualification --draws {draws} --write docs/results/qualification-power.md`
({seconds:.0f} s on a busy machine). Each line draws made-up federations and has the rule itself judge them: three
branches, Q1 to Q5. In brackets, twice the standard error.

Unless a line says otherwise: {rehearsals} rehearsals of {sizes} patients in turn, {patients} in all; 200 never-seen
patients at 4 hospitals, of 3 labels; 40 test patients of either class at each; the AUC of a campaign varies around the
truth with a standard deviation of .05; branches correlate by .5; a patient's margins under two models trained apart
correlate by .8; the original model has an AUC of .75 on each branch. Two campaigns from one parent share 90 % of what
one training differs from another.
"""


def errors() -> dict[str, tuple[str, World]]:
    """Lines of the first table: what it is about, and what should happen."""
    return {
        "all branches at .50": ("qualifies", World()),
        "all branches at .50, one of two registered attempts": ("qualifies", World(plan=TWICE)),
        "all branches at .50, without audit fold models": ("cannot: Q5", World(audit=False)),
        "all branches at .53": ("inside the margin", World(auc=(0.53, 0.53, 0.53))),
        "fused at .60": ("false", World(auc=FUSED)),
        "image at .60": ("false", World(auc=IMAGE)),
        "fused at .60, first of two attempts": ("false", World(plan=TWICE, auc=FUSED)),
        "all branches at .60": ("false", World(auc=(0.6, 0.6, 0.6))),
        "fused at .40 (over-forgotten)": ("false", World(auc=(0.5, 0.5, 0.4))),
        "a fifth of the patients remembered, at .95": ("false", World(remembered_share=0.2, remembered_auc=0.95)),
        "a fifth remembered, at .85": ("false", World(remembered_share=0.2, remembered_auc=0.85)),
        "a fifth remembered, at .75, as by the original": ("false", World(remembered_share=0.2, remembered_auc=0.75)),
        "a tenth remembered, at .95": ("false", World(remembered_share=0.1, remembered_auc=0.95)),
        "nothing unlearned": ("false", World(auc=(0.75, 0.75, 0.75))),
        "the original has only .60": ("cannot: Q3", World(original=(0.6, 0.6, 0.6))),
    }


def attempts_to_fool() -> dict[str, World]:
    """Lines of the third table: all of them must not qualify, or only as rarely as the level says."""
    few = PLAN.model_copy(update={"least_controls": 20, "controls_per_site": 5})
    many = few.model_copy(update={"rehearsals": 192})
    return {
        "40 never-seen patients shared by all, image at .60": World(plan=few, controls=40, auc=IMAGE),
        "the same with four times as many rehearsals": World(plan=many, controls=40, auc=IMAGE),
        "100 never-seen patients, image at .60": World(controls=100, auc=IMAGE),
        "one hospital, 200 never-seen patients, image at .60": World(hospitals=1, auc=IMAGE),
        "two hospitals 0.10 above, two 0.10 below .60": World(auc=IMAGE, strata=(0.1, -0.1)),
        "two hospitals at .60, two at .40 (mean .50)": World(strata=(0.1, -0.1)),
        "two hospitals at .65, two at .35 (mean .50)": World(strata=(0.15, -0.15)),
        "one hospital at .65, three at .45 (mean .50)": World(strata=(0.15, -0.05, -0.05, -0.05)),
        "between-campaign sd grows from .02 to .10, image at .60": World(between=0.02, growth=5, auc=IMAGE),
        "between-campaign sd of .15, image at .60": World(between=0.15, auc=IMAGE),
        "two models correlate by .95, image at .60": World(difficulty=0.95, auc=IMAGE),
        "two models correlate by .5, image at .60": World(difficulty=0.5, auc=IMAGE),
    }


def share(world: World, draws: int, seed: int = 0) -> str:
    """Share that qualifies, as per cent with twice its standard error."""
    outcomes = share_qualified(world, draws, seed)
    # A share of 0 or 1 would have no spread at all; one outcome in all draws is the least that can be told.
    spread = 2 * (max(outcomes * (1 - outcomes), 1 / draws) / draws) ** 0.5
    return f"{outcomes:.1%} (±{spread:.1%})".replace("%", " %")


def needed(draws: int) -> Iterator[str]:
    """Rows of the table of rehearsals, patients and never-seen patients."""
    for rehearsals in (40, 48, 72, 96):
        plan = PLAN.model_copy(update={"rehearsals": rehearsals, "least_controls": 20})
        cells = [share(World(plan=plan, controls=count), draws) for count in (100, 200, 400)]
        yield f"| {rehearsals} | {plan.patients} | {' | '.join(cells)} |"


def conformity(runs: int, seed: int = 0) -> Iterator[str]:
    """Rows of the table of conformity in margins: rehearsals and one campaign, with other never-seen patients each."""
    rng = np.random.default_rng(seed)
    count = PLAN.rehearsals
    truths = {"honest": 0.5, "nothing unlearned, AUC .75": 0.75, "half done, AUC .625": 0.625}
    truths |= {"pushed to the floor, AUC .10": 0.10}
    refusal_counts = {name: dict.fromkeys((1, 5, 9), 0) for name in truths}

    for _ in range(runs):
        for size in (1, 5, 9):
            # One call for all truths: they are then compared with the same rehearsals and controls.
            rows = distances(World(), size, count, list(truths.values()), rng)
            usual, own = rows[:count], rows[count:]
            p = (1 + (usual >= own[:, None]).sum(axis=1)) / (count + 1)
            for name, value in zip(truths, p, strict=True):
                # Half of the level of 5 % is left for the process, hence twice the p-value.
                refusal_counts[name][size] += bool(2 * value <= 0.05)

    for name, counts in refusal_counts.items():
        cells = " | ".join(f"{rows / runs:.1%}".replace("%", " %") for rows in counts.values())
        yield f"| {name} | {cells} |"


def document(draws: int) -> str:
    """The page."""
    begin = time.monotonic()
    first = [f"| {name} | {what} | {share(world, draws)} |" for name, (what, world) in errors().items()]
    second = list(needed(draws // 4))
    third = [f"| {name} | {share(world, draws // 2)} |" for name, world in attempts_to_fool().items()]
    fourth = list(conformity(draws))
    sizes = ", ".join(map(str, PLAN.sizes))
    head = _INTRODUCTION.format(
        draws=draws, seconds=time.monotonic() - begin, rehearsals=PLAN.rehearsals, sizes=sizes, patients=PLAN.patients
    )
    lines = [
        head,
        "## The whole rule\n",
        "| truth | should be | qualifies |\n|---|---|---:|",
        *first,
        "\n## What is needed, all branches at .50\n",
        "| rehearsals | patients | C = 100 | C = 200 | C = 400 |\n|---:|---:|---:|---:|---:|",
        *second,
        "\nC is the number of never-seen patients of the federation.",
        "\n## Attempts to fool it\n",
        "| what | qualifies |\n|---|---:|",
        *third,
        _FOOLED,
        "## Conformity in margins\n",
        f"Share of campaigns that do not conform, by their margins alone, beside {PLAN.rehearsals} rehearsals.\n",
        "| campaign | 1 patient | 5 patients | 9 patients |\n|---|---:|---:|---:|",
        *fourth,
        _CONFORMITY,
    ]

    return "\n".join(lines)


_FOOLED = """
Opposite hospitals are what a mean hides: where some remember and others over-forget, D is 0. Q2 and the variance
between rehearsals catch the larger differences and not the smaller ones. A qualification is a statement about the
federation's mean, and says so.
"""
_CONFORMITY = """
Half of the level of 5 % is spent here and half on the process (target gap, norm of the step, passes, why it stopped),
in which a model that was returned unchanged differs at any number of patients.
"""


def main(
    draws: Annotated[int, typer.Option(help="Made-up qualifications for each line.", min=40)] = 1000,
    write: Annotated[Path | None, typer.Option(help="File to write.")] = None,
) -> None:
    """Print the tables, or write them to a page."""
    text = document(draws)
    if write is None:
        typer.echo(text)
    else:
        write_text(write, text)


if __name__ == "__main__":
    typer.run(main)
