"""What a campaign does at this moment, in a line: the round, who has answered, who has not, how much is left."""

from __future__ import annotations

from datetime import datetime

from server.rounds.exchanges.progress import CONNECT, Progress
from server.settings import Terms

# Not from `common.protocol.messages`, which needs NumPy: time at each command. A test compares them.
WORDS = {
    CONNECT: "waiting for hospitals to connect",
    "query.status": "asking for counts",
    "train": "training",
    "train.unlearn": "unlearning",
    "train.retain": "retention",
    "train.rehearse": "rehearsal",
    "evaluate": "evaluation",
    "query.adopt": "handing out the new version",
}
_ROUNDS = ("train", "train.retain")


def describe(progress: Progress, terms: Terms, now: datetime) -> str:
    """The round, the sites that answered, whom it waits for and how long, and how much time is left at most."""
    parts = [headline(progress, terms)]

    if progress.waiting and progress.kind != CONNECT:
        waiting_seconds = (now - progress.since).total_seconds()
        parts.append(f"waiting for {', '.join(progress.waiting)} ({span(waiting_seconds)})")
    elif progress.kind == CONNECT and progress.waiting:
        parts.append(f"not there: {', '.join(progress.waiting)}")

    if progress.left_out:
        parts.append(f"left out: {', '.join(progress.left_out)}")
    remaining = seconds_left(progress, terms, now)
    if remaining is not None and (remaining > 0 or progress.waiting):
        parts.append(f"at most {span(remaining)} left" if remaining > 0 else "slower than the round before")
    elif progress.waiting and progress.until is not None:
        parts.append(f"nobody is waited for after {progress.until:%H:%M:%S} UTC")

    return "; ".join(parts)


def headline(progress: Progress, terms: Terms) -> str:
    """Without anything that changes by the clock alone, so that a line is printed once for each change."""
    words = WORDS.get(progress.kind, progress.kind)

    if progress.kind in _ROUNDS:
        words = f"{words} round {progress.round + 1} of {_rounds(progress, terms)}"
    elif progress.kind == "evaluate" and progress.step:
        words = f"{words} ({progress.step})"

    word = "online" if progress.kind == CONNECT else "answered"

    return f"{words}: {len(progress.answered)} of {len(progress.asked)} sites {word}"


def seconds_left(progress: Progress, terms: Terms, now: datetime) -> float | None:
    """Until the last round of this kind, from the pace of the round before; None where nothing is known of that."""
    if progress.kind not in _ROUNDS or progress.round_seconds is None:
        return None
    rounds = terms.experiment.train.rounds if progress.kind == "train" else _retention_rounds(progress, terms)
    remaining = max(1, rounds - progress.round) * progress.round_seconds

    return remaining - (now - progress.since).total_seconds()


def span(seconds: float) -> str:
    """Seconds as people say them."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"


def _rounds(progress: Progress, terms: Terms) -> str:
    if progress.kind == "train":
        return f"at most {terms.experiment.train.rounds}"
    return str(_retention_rounds(progress, terms))


def _retention_rounds(progress: Progress, terms: Terms) -> int:
    """As planned, or more where a round beyond that runs: one hospital alone wrote the model."""
    planned_rounds = terms.experiment.campaign.retention_rounds
    if progress.round < planned_rounds or terms.policy.single_writer != "retain":
        return planned_rounds
    return max(planned_rounds, terms.policy.single_writer_rounds)
