"""What random rogues came to: one line of JSON for each play, so that a study can be stopped and taken up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import beta

TOLERANCE = 0.05
MOST_CAMPAIGNS = 12
GOAL = 2000


class Outcome(BaseModel):
    """What one play came to."""

    model_config = ConfigDict(frozen=True)

    seed: int
    rogue: str
    way: str
    campaigns: int
    published: int
    named: bool
    suspended: bool
    raised: str
    blamed: tuple[str, ...]
    """Honest hospitals with a bad reply in the record."""
    unattributed: tuple[str, ...]
    """Ends of campaigns that name neither a reason of policy nor the rogue."""
    in_time: bool
    """Whether the others' patients were forgotten before their date."""
    open_at_end: bool
    fall: float
    """Of the macro test AUC at a judge with 200 patients, from the first model to the last."""
    certain: bool
    """Whether the 95 % interval of the fall lies beyond the tolerance."""
    seconds: float = 0.0
    commit: str = ""
    """What was played."""


def read_outcomes(file: Path) -> dict[int, Outcome]:
    """The plays that a study has on file, by seed; a last line that was cut short is played again."""
    outcomes = {}

    for line in file.read_text().splitlines() if file.exists() else ():
        if line.endswith("}"):
            outcome = Outcome.model_validate_json(line)
            outcomes[outcome.seed] = outcome

    return outcomes


def keep(file: Path, outcome: Outcome) -> None:
    """Add a play to the file."""
    with file.open("a") as lines:
        lines.write(outcome.model_dump_json() + "\n")


def violations(outcomes: Sequence[Outcome]) -> list[str]:
    """What must never be."""
    found = []

    for o in outcomes:
        where = f"seed {o.seed}, {o.rogue}, {o.way}"
        if o.raised:
            found.append(f"{where}: raised {o.raised}")
        if o.unattributed:
            found.append(f"{where}: {o.unattributed[0]}")
        if o.blamed:
            found.append(f"{where}: {', '.join(o.blamed)} blamed")
        if o.certain:
            found.append(f"{where}: utility fell by {o.fall:.2f}")
        if o.campaigns > MOST_CAMPAIGNS or o.open_at_end:
            found.append(f"{where}: {o.campaigns} campaigns{', one still open' if o.open_at_end else ''}")

    return found


def report(outcomes: Sequence[Outcome], asked: int) -> str:
    """Markdown."""
    falls = np.array([o.fall for o in outcomes])
    ways = sorted({o.way.split(" at ")[0] for o in outcomes})
    lines = [
        "# Random rogues",
        "",
        f"{len(outcomes)} plays of {np.mean([o.seconds for o in outcomes]):.1f} s: one of four hospitals answers by a",
        "fuzzer. It changes figures, counts, weights, bytes and form of real replies, stays silent or raises. Two",
        "hospitals have revocations. The coordinator's loop, campaigns, gate, registry and database are the real ones;",
        "honest answers are remembered, and nothing is signed.",
        "",
        "Made by `python tests/faults/rogue/random_rogue.py --runs 2000 --keep rogue.jsonl --write "
        "docs/results/rogue.md`.",
        "",
        "| how it answers | plays | named | suspended | others forgotten in time | campaigns a play, mean / most |",
        "|---|---|---|---|---|---|",
    ]

    for way in ways:
        of = [o for o in outcomes if o.way.split(" at ")[0] == way]
        counts = [len(of), sum(o.named for o in of), sum(o.suspended for o in of), sum(o.in_time for o in of)]
        campaigns = f"{np.mean([o.campaigns for o in of]):.1f} / {max(o.campaigns for o in of)}"
        lines.append(f"| {way} | {' | '.join(map(str, counts))} | {campaigns} |")

    lines += [
        "",
        f"- Ends of a run by an exception: {sum(bool(o.raised) for o in outcomes)}.",
        f"- Ends that name neither the rogue nor a reason of its own: {sum(bool(o.unattributed) for o in outcomes)}.",
        f"- Plays in which an honest hospital was blamed: {sum(bool(o.blamed) for o in outcomes)}.",
        f"- Versions whose AUC certainly fell by more than {TOLERANCE}: {sum(o.certain for o in outcomes)}; "
        f"fall of the last version: median {np.median(falls):+.3f}, 99th percentile {np.quantile(falls, 0.99):+.3f}, "
        f"largest {falls.max():+.3f}; point estimates beyond the tolerance: {(falls > TOLERANCE).sum()}.",
        f"- Campaigns still open, or more than {MOST_CAMPAIGNS} of them: "
        f"{sum(o.open_at_end or o.campaigns > MOST_CAMPAIGNS for o in outcomes)}.",
        f"- Others' patients not forgotten in time: {sum(not o.in_time for o in outcomes)}.",
    ]
    found = violations(outcomes)
    with_one = len({text.split(",")[0] for text in found})
    # Clopper and Pearson (1934), one-sided 95 %.
    most = beta.ppf(0.95, with_one + 1, len(outcomes) - with_one) if with_one < len(outcomes) else 1.0
    lines += [
        "",
        f"Plays with a violation: {with_one}; up to {most:.2%} of plays may have one (exact, one-sided 95 %).",
    ]
    if len(outcomes) < asked:
        lines += [f"{asked} plays are the goal; the time was over before."]
    commits = Counter(o.commit for o in outcomes if o.commit)
    if commits:
        lines += ["Played at " + ", ".join(f"{commit} ({count})" for commit, count in commits.items()) + "."]
    lines += [
        "Plays with an even seed begin with a model whose AUC at the judge is 1.00, and unlearning is accepted; those",
        "with an odd one begin with a model of .83 that unlearning harms, so that the campaign retrains.",
    ]

    if found:
        kinds = Counter(text.split(": ", 1)[1].split(":")[0][:60] for text in found)
        lines += ["", "Violations:", "", *(f"- {count} x {kind}" for kind, count in kinds.most_common(20))]
        lines += ["", "First of them:", "", *(f"- {text}" for text in found[:20])]

    return "\n".join(lines) + "\n"
