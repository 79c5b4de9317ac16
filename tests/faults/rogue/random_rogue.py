"""Random rogues: whole campaigns in which one of four hospitals answers by a fuzzer, and what came of each.

`python tests/faults/rogue/random_rogue.py --runs 2000 --write docs/results/rogue.md`
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a command; pytest finds the package by its settings
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[3])]

import numpy as np
import torch
from flwr.app import RecordDict
from sqlalchemy import select

from common.learning.evaluation.decision import Z95
from common.learning.evaluation.metrics import utility
from common.learning.records import Subset
from common.platform.sql import transaction
from rogue.mutations import odd_arrays, odd_body, odd_json, odd_record, odd_reply, odd_weights, with_body
from rogue.world import DUE, PENDING, SITES, Played, Silent, World
from server.database import EventRow

TOLERANCE = 0.05
MOST_CAMPAIGNS = 12
NAMED = {"quarantined", "late", "suspended", "waiting", "escalated"}
Change = Callable[[RecordDict, random.Random], RecordDict]


@dataclass(frozen=True)
class Outcome:
    """What one play came to."""

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


def wrong_scale(records: RecordDict, draw: random.Random) -> RecordDict:
    """The same small lie about figures again and again: consistent, and within all types."""

    def change(value: Any) -> Any:
        return odd_json(value, draw)

    return with_body(records, change)


WAYS: dict[str, tuple[Change, ...]] = {
    "anything": (odd_reply,),
    "figures": (odd_body,),
    "weights": (odd_weights,),
    "bytes": (odd_arrays, odd_record),
    "one lie": (wrong_scale,),
}


def rogue_play(draw: random.Random) -> tuple[str, Callable[[str, RecordDict], RecordDict]]:
    """A way to answer: how, how often, at which messages."""
    way = draw.choice([*WAYS, "silence", "exceptions", "mixed"])
    often = draw.choice([0.2, 0.5, 1.0])
    kinds = draw.choice(["", "", "train.unlearn", "evaluate", "train.retain", "query.status", "train"])

    def play(kind: str, reply: RecordDict) -> RecordDict:
        if (kinds and kind != kinds) or draw.random() > often:
            return reply
        chosen = draw.choice([*WAYS, "silence", "exceptions"]) if way == "mixed" else way
        if chosen == "silence":
            raise Silent
        if chosen == "exceptions":
            raise RuntimeError("odd")
        return draw.choice(WAYS[chosen])(reply, draw)

    return f"{way}" + (f" at {kinds}" if kinds else ""), play


def scored(world: World, state: dict[str, torch.Tensor]) -> tuple[float, float]:
    """AUC and its variance of the second class at the judge."""
    scores = world.judge.scores(state, Subset.TEST)
    assert scores is not None
    auc = utility(scores, 2, 2).auc[1]

    return float(auc.auc or 0.0), float(auc.variance or 0.0)


def one(world: World, seed: int, before: tuple[float, float]) -> Outcome:
    """One play from the first model to its end."""
    draw = random.Random(seed)
    rogue = draw.choice(SITES)
    way, play = rogue_play(draw)
    folder = world.root / f"play-{seed}"
    played = world.played(folder, rogue, play)
    raised = ""
    ticks = 0

    try:
        ticks = played.run()
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        raised = f"{type(error).__name__}: {str(error)[:100]}"

    try:
        return _outcome(world, played, seed, rogue, way, raised, ticks, before)
    finally:
        shutil.rmtree(folder)


def _outcome(
    world: World, played: Played, seed: int, rogue: str, way: str, raised: str, ticks: int, before: tuple[float, float]
) -> Outcome:
    with played.house() as house:
        rows = [row for row in house.store.all() if row.kind == "unlearning"]
        with transaction(house.engine) as session:
            events = list(session.scalars(select(EventRow)).all())
        active = house.registry.active()
        assert active is not None
        after = scored(world, house.registry.load(active.name)) if active.name != "v0001" else before
        still_open = house.store.open() is not None

    named = {e.campaign for e in events if e.kind in NAMED and (e.site == rogue or rogue in e.detail)}
    bad = [
        f"{row.number} {row.state}: {row.reason[:90]}"
        for row in rows
        if row.state in {"failed", "rejected", "inconclusive"} and rogue not in row.reason and row.number not in named
    ]
    others = {name for name in PENDING if name != rogue}
    times = played.pending.forgotten
    spread = (before[1] + after[1]) ** 0.5

    return Outcome(
        seed=seed,
        rogue=rogue,
        way=way,
        campaigns=len(rows),
        published=sum(row.state == "published" for row in rows),
        named=any(e.site == rogue and e.kind in NAMED for e in events) or bool(named),
        suspended=any(e.kind == "suspended" and e.site == rogue for e in events),
        raised=raised,
        blamed=tuple(sorted({e.site for e in events if e.kind == "quarantined" and e.site not in {None, rogue}})),
        unattributed=tuple(bad),
        in_time=all(name in times and times[name] <= DUE for name in others),
        open_at_end=still_open,
        fall=before[0] - after[0],
        certain=before[0] - after[0] - Z95 * spread > TOLERANCE,
    )


def study(
    world: World,
    seeds: Sequence[int],
    tell: Callable[[int, Outcome], None] = lambda *_: None,
    minutes: float = 1e6,
) -> list[Outcome]:
    """Plays with these seeds, as many as fit into so many minutes."""
    with world.played(world.root / "first", SITES[0], lambda _, reply: reply).house() as house:
        before = scored(world, house.registry.load("v0001"))
    outcomes = []
    end = time.monotonic() + 60.0 * minutes

    for number, seed in enumerate(seeds):
        if time.monotonic() > end:
            break
        outcomes.append(one(world, seed, before))
        tell(number, outcomes[-1])

    return outcomes


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


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Markdown."""
    falls = np.array([o.fall for o in outcomes])
    ways = sorted({o.way.split(" at ")[0] for o in outcomes})
    lines = [
        "# Random rogues",
        "",
        f"{len(outcomes)} plays of {seconds / len(outcomes):.2f} s: one of four hospitals answers by a fuzzer, which",
        "changes figures, counts, weights, bytes and form of real replies, stays silent or raises. Two hospitals have",
        "revocations. The coordinator's loop, campaigns, gate, registry and database are the real ones; honest answers",
        "are remembered.",
        "",
        "Made by `python tests/faults/rogue/random_rogue.py --runs 2000 --write docs/results/rogue.md`.",
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

    if found:
        kinds = Counter(text.split(": ", 1)[1].split(":")[0][:60] for text in found)
        lines += ["", "Violations:", "", *(f"- {count} x {kind}" for kind, count in kinds.most_common(20))]
        lines += ["", "First of them:", "", *(f"- {text}" for text in found[:20])]

    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--write", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    shm = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own in it
    root = Path(tempfile.mkdtemp(dir=shm))

    try:
        begin = time.monotonic()
        world = World(root)

        def tell(number: int, outcome: Outcome) -> None:
            if number % 50 == 0 or violations([outcome]):
                text = "; ".join(violations([outcome])) or "well"
                sys.stdout.write(f"{number} after {time.monotonic() - begin:.0f} s: {text}\n")
                sys.stdout.flush()

        outcomes = study(world, range(asked.first, asked.first + asked.runs), tell, asked.minutes)
        text = report(outcomes, time.monotonic() - begin)
        if len(outcomes) < asked.runs:
            text += f"\n{asked.runs} were asked for; the time was over before.\n"
        sys.stdout.write(text)
        if asked.write:
            asked.write.write_text(text)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
