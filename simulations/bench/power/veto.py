"""How often the veto sees a loss, and how often it sees one that is not there.

`python -m simulations.bench.power.veto --write docs/results/veto-power.md`

Test patients are drawn at random and judged by the veto itself. A patient whom the version in use calls right is called
right by the candidate more often than others: half of the patients keep their rank of difficulty, the others get a new
one. In the last two columns nobody keeps it, which the veto's variance assumes and which is the worst case.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from common.files import write_text
from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import ClassAuc, FederationFigures, Utility
from server.rounds.checks.veto import veto

SITES = (1, 2, 3, 5)
PATIENTS = (5, 10, 20, 50, 100)
"""Of each of two classes at each site."""
BEFORE = 0.90
AFTER = (0.85, 0.80, 0.75, 0.68, 0.60)
_SAME_SHARE = 0.5
"""Share of patients whose difficulty is the same for both models."""

_INTRODUCTION = """# Power of the veto

Command: `python -m simulations.bench.power.veto --runs {runs} --write docs/results/veto-power.md` (15 s).

Share of {runs} campaigns in which the sites that forget nobody veto a candidate, at the default tolerance of .05. The
version in use calls .90 of each of two classes right, and the AUC does not change. The first column of each group, .85,
is the edge of the tolerance: a veto there is a false alarm.
"""
_NOTES = """Sites send counts and not patients, so the veto cannot pair what both models say of one patient. Its
variance is that of two independent measurements, as if the models were right about unrelated patients; the last two
columns simulate that worst case. Elsewhere half of the patients are as hard for both models.

At the edge of the tolerance each test of all sites together errs in 5 % of cases; the tests of single sites share
2.5 %. Three such tests run on the same patients, so the worst case exceeds 5 %.
"""

Right = NDArray[np.int64]
"""Patients called right, by run, site and class."""


def draw(
    generator: np.random.Generator, shape: tuple[int, int, int], after: tuple[float, float], same_share: float
) -> tuple[Right, Right]:
    """Patients whom both models call right, of `shape` runs, sites and patients a class."""
    runs, sites, patients = shape
    size = (runs, sites, 2, patients)
    difficulty = generator.random(size)
    # Whoever does not keep the difficulty draws a new one; at 0 both models are right about unrelated patients.
    again = np.where(generator.random(size) < same_share, difficulty, generator.random(size))
    limits = np.array(after)[None, None, :, None]

    return (difficulty < BEFORE).sum(axis=3), (again < limits).sum(axis=3)


def vetoed(before: Right, after: Right, patients: int) -> float:
    """Share of runs in which there is a veto at the default tolerance."""
    config = DecisionConfig()
    verdicts = [
        bool(veto(_figures(old, patients), _figures(new, patients), (), config))
        for old, new in zip(before, after, strict=True)
    ]
    return sum(verdicts) / len(verdicts)


def _figures(right: Right, patients: int) -> FederationFigures:
    """Test figures of all sites; the AUC stays the same, so that the shares alone decide."""
    pairs = patients**2
    auc = ClassAuc(wins=0.9 * pairs, pairs=pairs, positives=patients, negatives=patients)
    groups = {
        f"site-{number}": Utility(
            patients=2 * patients,
            confusion=((int(first), patients - int(first)), (patients - int(second), int(second))),
            auc=(auc, auc),
            loss_sum=1.0,
            loss_median=None,
        )
        for number, (first, second) in enumerate(right)
    }
    return FederationFigures(groups={}, membership={}, membership_by_site={}, test_by_site=groups)


def rows(runs: int, seed: int) -> Iterator[tuple[str, ...]]:
    """The table: one row for each number of sites and patients."""
    for sites in SITES:
        for patients in PATIENTS:
            # A seed a cell, so that a row does not change when others are added.
            generator = np.random.default_rng((seed, sites, patients))
            shape = (runs, sites, patients)
            one_class = [vetoed(*draw(generator, shape, (BEFORE, after), _SAME_SHARE), patients) for after in AFTER]
            both = [vetoed(*draw(generator, shape, (after, after), _SAME_SHARE), patients) for after in AFTER]
            vetoes_unchanged = vetoed(*draw(generator, shape, (BEFORE, BEFORE), 0.0), patients)
            vetoes_tolerated = vetoed(*draw(generator, shape, (0.85, 0.85), 0.0), patients)
            cells = [f"{share:.0%}" for share in (*one_class, *both, vetoes_unchanged, vetoes_tolerated)]
            yield (str(sites), str(patients), *cells)


def page(runs: int, seed: int) -> str:
    """The whole page, in Markdown."""
    drops = [f"{after:.2f}" for after in AFTER]
    header = [
        "sites",
        "patients of a class at each",
        *(f"one class at {text}" for text in drops),
        *(f"all classes at {text}" for text in drops),
        "worst case: no change",
        "worst case: all classes at .85",
    ]
    table = [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(cells) + " |" for cells in rows(runs, seed)),
    ]
    return "\n".join([_INTRODUCTION.format(runs=runs), *table, "", _NOTES])


def main(
    runs: Annotated[int, typer.Option(help="Simulated campaigns for each figure.", min=1)] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the random patients.")] = 0,
    write: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Print or write the table of the veto's power."""
    text = page(runs, seed)

    if write is None:
        typer.echo(text)
    else:
        write_text(write, text)


if __name__ == "__main__":
    typer.run(main)
