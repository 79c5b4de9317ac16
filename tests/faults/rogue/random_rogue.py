"""Random rogues: whole campaigns in which one of four hospitals answers by a fuzzer, and what came of each.

`python tests/faults/rogue/random_rogue.py --runs 2000 --keep rogue.jsonl --write docs/results/rogue.md`

`--keep` adds a line for each play to a file; the same command, given again, goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a command; pytest finds the package by its settings
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[3])]

import torch
from flwr.app import RecordDict
from sqlalchemy import select

from common.learning.evaluation.decision import Z95
from common.learning.evaluation.metrics import utility
from common.learning.records import Subset
from common.platform.sql import transaction
from rogue.mutations import odd_arrays, odd_body, odd_json, odd_record, odd_reply, odd_weights, with_body
from rogue.outcomes import TOLERANCE, Outcome, keep, read_outcomes, report, violations
from rogue.world import DUE, PENDING, SITES, Played, Silent, World
from server.database import EventRow

NAMED = {"quarantined", "late", "suspended", "waiting", "escalated"}
Change = Callable[[RecordDict, random.Random], RecordDict]


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
    begin = time.monotonic()

    try:
        played.run()
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        raised = f"{type(error).__name__}: {str(error)[:100]}"

    try:
        outcome = _outcome(world, played, seed, rogue, way, raised, before)
        return outcome.model_copy(update={"seconds": time.monotonic() - begin})
    finally:
        shutil.rmtree(folder)


def _outcome(
    world: World, played: Played, seed: int, rogue: str, way: str, raised: str, before: tuple[float, float]
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
    worlds: Sequence[World],
    seeds: Sequence[int],
    tell: Callable[[int, Outcome], None] = lambda *_: None,
    minutes: float = 1e6,
) -> list[Outcome]:
    """Plays with these seeds in these worlds by turns, as many as fit into so many minutes."""
    before = []
    outcomes = []
    end = time.monotonic() + 60.0 * minutes

    for world in worlds:
        with world.played(world.root / "first", SITES[0], lambda _, reply: reply).house() as house:
            before.append(scored(world, house.registry.load("v0001")))

    for number, seed in enumerate(seeds):
        if time.monotonic() > end:
            break
        turn = seed % len(worlds)
        outcomes.append(one(worlds[turn], seed, before[turn]))
        tell(number, outcomes[-1])

    return outcomes


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--keep", type=Path, default=None, help="file of plays to go on from")
    parser.add_argument("--commit", default="", help="what is played, for the report")
    parser.add_argument("--write", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    outcomes = read_outcomes(asked.keep) if asked.keep else {}
    seeds = [seed for seed in range(asked.first, asked.first + asked.runs) if seed not in outcomes]
    begin = time.monotonic()

    def tell(number: int, outcome: Outcome) -> None:
        outcome = outcome.model_copy(update={"commit": asked.commit})
        outcomes[outcome.seed] = outcome
        if asked.keep:
            keep(asked.keep, outcome)
        if number % 50 == 0 or violations([outcome]):
            text = "; ".join(violations([outcome])) or "well"
            sys.stdout.write(f"{number} after {time.monotonic() - begin:.0f} s: {text}\n")
            sys.stdout.flush()

    if seeds:
        shm = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own in it
        root = Path(tempfile.mkdtemp(dir=shm))
        try:
            study([World(root / f"world-{spread}", spread) for spread in (0.0, 30.0)], seeds, tell, asked.minutes)
        finally:
            shutil.rmtree(root)

    text = report([outcomes[seed] for seed in sorted(outcomes)], asked.runs)
    sys.stdout.write(text)
    if asked.write:
        asked.write.write_text(text)


if __name__ == "__main__":
    main()
