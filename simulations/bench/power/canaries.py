"""Whether secret canaries would show that a hospital did not unlearn, what they cost, and how they are evaded.

`python -m simulations.bench.power.canaries --seeds 12 --write docs/results/canaries.md`

A canary is a made-up patient of a third party in a hospital's training set, who revokes together with real patients.
Who made the canaries knows their rows, so can score a model on them, and compare with made-up patients never handed in.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from common.files import write_text
from common.learning.config import UnlearnConfig
from simulations.bench.power.canary_federation import (
    CANARIES,
    HOSPITALS,
    PATIENTS,
    REFERENCE,
    Federation,
    Kind,
    losses,
    random_step,
    test_auc,
    trained,
    unlearned,
)

REAL = 4
"""Real patients who revoke."""
COUNTS = (1, 5, 10)
LEVEL = 0.05
_DRAWS = 2000
HOW: dict[str, str] = {
    "honest": "forgets all who revoked",
    "half": "half the passes",
    "unchanged": "model returned unchanged",
    "noise": "random step of the honest length",
    "canaries": "forgets the canaries, and trains on with the real patients",
    "absent": "(never had the canaries: the test's own false alarms)",
}

_HEAD = """# Secret canaries

Command: `python -m simulations.bench.power.canaries --seeds {seeds} --write docs/results/canaries.md`.

{seeds} federations of {hospitals} made-up hospitals with {patients} patients each. One hospital also holds {canaries}
canaries and unlearns them together with {real} real patients (Forget-MI, calibrated, default settings). Whoever made
the canaries scores the model that the hospital returns: are their losses smaller than those of {reference} made-up
patients whom no hospital got? The test is one-sided at {level:.0%}, by {draws} random draws of as many of these. The
canaries are either *plausible* (as the hospital's patients) or *mislabelled* (with a wrong label, so that a model can
only know them by heart).

Share of models for which the test says "not forgotten", with 1, 5 or 10 canaries:

| canaries | what the hospital does | 1 | 5 | 10 | real patients: AUC of membership |
|---|---|---|---|---|---|
"""


_NOTES = """
"Forgets all who revoked" is honest: what the test says of it are false accusations. "Half the passes" and the lines
below it are what it should find, except the last one. With {seeds} models, a share with 10 canaries is known to about
±{error:.0f} points; those with 1 and 5 come from ten and two groups of canaries a model. The last column says how the
real patients fare: .5 is the aim, and the model that never had canaries, but these patients, is the last line.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One model: the share of tests that it fails by number of canaries, and how well real patients stand out."""

    kind: Kind
    how: str
    flag_shares: Mapping[int, float]
    real: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Test AUC with canaries less without, of the trained model and after honest unlearning."""

    kind: Kind
    after_training: float
    after_unlearning: float


def share_flagged(canary_losses: NDArray[np.float64], reference: NDArray[np.float64], count: int, seed: int) -> float:
    """How many of the groups of `count` canaries have too small a mean loss to be never-seen patients."""
    rng = np.random.default_rng([seed, count])
    group_means = rng.choice(reference, size=(_DRAWS, count)).mean(axis=1)
    groups = canary_losses[: len(canary_losses) // count * count].reshape(-1, count).mean(axis=1)
    # One is added so that no p-value is 0: the drawn groups are a sample, not all there are.
    p_values = [(1 + int((group_means <= mean).sum())) / (_DRAWS + 1) for mean in groups]

    return float(np.mean([p <= LEVEL for p in p_values]))


def membership(real_losses: NDArray[np.float64], never_losses: NDArray[np.float64]) -> float:
    """How often a patient who revoked has a smaller loss than one never seen; .5 is the aim."""
    return float(
        (real_losses[:, None] < never_losses[None, :]).mean()
        + 0.5 * (real_losses[:, None] == never_losses[None, :]).mean()
    )


def of_seed(root: Path, seed: int) -> Iterator[Result | Cost]:
    """All models of one federation."""
    federation = Federation(root, seed)
    real = federation.train[0][:REAL]
    rest = federation.train[0][REAL:]
    # Without canaries, for their cost and for the false alarms.
    plain = trained(federation, [])
    plain_after, _ = unlearned(federation, plain, real, rest, UnlearnConfig().passes)

    kinds: tuple[Kind, ...] = ("plausible", "mislabelled")
    for kind in kinds:
        canaries, absent, reference = federation.made_up(kind)
        parent = trained(federation, canaries)
        honest, passes = unlearned(federation, parent, real + canaries, rest, UnlearnConfig().passes)
        half, _ = unlearned(federation, parent, real + canaries, rest, max(1, passes // 2))
        # The evasion: canaries are found by their oddness and forgotten, the real patients trained on.
        only, _ = unlearned(federation, parent, canaries, rest + real, UnlearnConfig().passes)
        models = {
            "honest": honest,
            "half": half,
            "unchanged": parent,
            "noise": random_step(parent, honest, seed),
            "canaries": only,
            "absent": plain,
        }

        for how, model in models.items():
            canary_losses = losses(federation, model, absent if how == "absent" else canaries)
            reference_losses = losses(federation, model, reference)
            flag_shares = {count: share_flagged(canary_losses, reference_losses, count, seed) for count in COUNTS}
            never_losses = losses(federation, model, federation.never_seen)
            yield Result(kind, how, flag_shares, membership(losses(federation, model, real), never_losses))

        yield Cost(
            kind,
            test_auc(federation, parent) - test_auc(federation, plain),
            test_auc(federation, honest) - test_auc(federation, plain_after),
        )


def report(results: list[Result], costs: list[Cost], seeds: int) -> str:
    """Markdown."""
    of_kind: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        of_kind[result.kind, result.how].append(result)
    lines = []

    for (kind, how), models in of_kind.items():
        shares = " | ".join(f"{np.mean([m.flag_shares[count] for m in models]):.0%}" for count in COUNTS)
        lines.append(f"| {kind} | {HOW[how]} | {shares} | {np.mean([m.real for m in models]):.2f} |")

    lines += [
        "",
        f"With {CANARIES} canaries the mean test AUC changes as follows, compared with the same federation without",
        "them (mean of the seeds ± standard error):",
        "",
        "| canaries | trained model | after honest unlearning |",
        "|---|---|---|",
    ]
    for kind in dict.fromkeys(cost.kind for cost in costs):
        cells = [
            f"{np.mean(values):+.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"
            for values in (
                [c.after_training for c in costs if c.kind == kind],
                [c.after_unlearning for c in costs if c.kind == kind],
            )
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")

    head = _HEAD.format(
        seeds=seeds,
        hospitals=HOSPITALS,
        patients=PATIENTS,
        canaries=CANARIES,
        real=REAL,
        reference=REFERENCE,
        level=LEVEL,
        draws=_DRAWS,
    )
    return head + "\n".join(lines) + "\n" + _NOTES.format(seeds=seeds, error=100 / seeds**0.5)


def main(
    seeds: Annotated[int, typer.Option(help="Federations.", min=2)] = 12,
    write: Annotated[Path | None, typer.Option(help="File to write.")] = None,
) -> None:
    """Measure and print, or write."""
    torch.set_num_threads(1)
    results: list[Result] = []
    costs: list[Cost] = []

    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            for one in of_seed(Path(folder), seed):
                if isinstance(one, Result):
                    results.append(one)
                else:
                    costs.append(one)
        typer.echo(f"{seed + 1} of {seeds}", err=True)
        # The page is rewritten after every federation, but a standard error takes two.
        if write is not None and seed:
            write_text(write, report(results, costs, seed + 1))

    if write is None:
        typer.echo(report(results, costs, seeds))


if __name__ == "__main__":
    typer.run(main)
