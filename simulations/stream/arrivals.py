"""Revocations over simulated months, as a pure function of patients, settings and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np

from common.errors import ConfigError
from common.learning.device import derive_seed
from simulations.stream.settings import ArrivalsConfig

DAYS_A_MONTH = 365.25 / 12

Kind = Literal["single", "burst", "leave"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A patient of a hospital's training set revokes."""

    at: datetime
    site: str
    patient: str = field(repr=False)
    kind: Kind = "single"


@dataclass(frozen=True, slots=True)
class _Event:
    day: float
    kind: Kind
    burst: int = -1


def arrivals(training: Mapping[str, Sequence[str]], config: ArrivalsConfig, seed: int) -> tuple[Arrival, ...]:
    """Revocations in order of time; nobody revokes twice.

    Single patients arrive as a Poisson process, drawn from all remaining patients. Patients of a burst are from one
    hospital, more often a large one. A hospital that leaves withdraws all its remaining patients.

    Args:
        training: patients of each hospital's training set.

    Raises:
        ConfigError: the hospital is unknown, or no training patients would remain.
    """
    if config.leaving and config.leaving not in training:
        raise ConfigError(
            f"no hospital {config.leaving!r}", where="arrivals.leaving", remedy=f"use one of {sorted(training)}"
        )

    # Sorted, so that draws do not depend on the order in which folders were read.
    staying = {site: sorted(patients) for site, patients in sorted(training.items())}
    draw = np.random.default_rng(derive_seed(seed, "arrivals", "patients"))
    places: dict[int, str] = {}
    sequence: list[Arrival] = []

    for event in _events(config, seed):
        at = config.start + timedelta(days=event.day)
        if event.kind == "leave":
            sequence += [Arrival(at, config.leaving, patient, "leave") for patient in staying.pop(config.leaving, [])]
            continue

        site = places.get(event.burst) or _site(staying, draw)
        if event.burst >= 0:
            places[event.burst] = site
        # A burst may meet a hospital that has nobody left, or has left meanwhile.
        if patients := staying.get(site):
            sequence.append(Arrival(at, site, patients.pop(int(draw.integers(len(patients)))), event.kind))
        if not any(staying.values()):
            raise ConfigError(
                "all training patients would revoke", where="arrivals", remedy="lower the rate, or add patients"
            )

    return tuple(sequence)


def days(sequence: Sequence[Arrival]) -> list[float]:
    """Between one arrival and the next."""
    return [(after.at - before.at) / timedelta(days=1) for before, after in pairwise(sequence)]


def _events(config: ArrivalsConfig, seed: int) -> list[_Event]:
    # A generator of its own for each kind: more bursts must not move the single patients.
    single = np.random.default_rng(derive_seed(seed, "arrivals", "single"))
    events: list[_Event] = []
    day = 0.0

    while config.per_month > 0:
        # Waits between the events of a Poisson process are exponential.
        day += float(single.exponential(DAYS_A_MONTH / config.per_month))
        if day >= config.days:
            break
        events.append(_Event(day, "single"))

    bursts = np.random.default_rng(derive_seed(seed, "arrivals", "bursts"))
    for number in range(config.bursts):
        begin = float(bursts.uniform(0, max(0.0, config.days - config.burst_days)))
        within = bursts.uniform(0, config.burst_days, config.burst_patients)
        events += [_Event(begin + float(after), "burst", number) for after in within]

    if config.leaving:
        events.append(_Event(config.leaves_on_day, "leave"))
    return sorted(events, key=lambda event: event.day)


def _site(remaining: Mapping[str, Sequence[str]], draw: np.random.Generator) -> str:
    """Of a patient drawn from all who are left."""
    names = list(remaining)
    # By patients, not by hospitals: each patient is equally likely to revoke.
    counts = np.array([len(remaining[name]) for name in names], dtype=float)
    return names[int(draw.choice(len(names), p=counts / counts.sum()))]
