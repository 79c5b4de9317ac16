"""Assign patients: to the sets of a site, to sites, and to those to be forgotten.

All assignments are by patient and stratified by label. They depend on the seed and the patients, never on row order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from common.errors import CohortError, ConfigError
from common.learning.config import SplitConfig
from common.learning.records import Cohort, Split, Subset

Groups = Mapping[str, str]
"""Maps a patient to the group that must stay together: duplicates, or one person under two ids."""
Unit = tuple[str, ...]
"""Patients who are never separated, sorted; usually one."""


def split_cohort(cohort: Cohort, config: SplitConfig, seed: int, groups: Groups | None = None) -> Split:
    """Divide the patients of one site into the five sets; a set with a share above 0 gets at least one.

    Shares are shares of units: a patient, or the patients of one group. Sizes follow the largest remainder.

    Raises:
        CohortError: the studies are of several sites, or the patients are fewer than the sets.
        ConfigError: the shares leave nothing to train on.
    """
    if len(cohort.sites) > 1:
        raise CohortError("patients of several sites in one split", remedy="split each site by itself")
    shares = _shares(config)
    by_label = strata(cohort, groups)
    units = sum(len(stratum) for stratum in by_label)

    if units < len(shares):
        raise CohortError(
            f"the site has too few patients: {units} cannot fill {len(shares)} sets",
            where=", ".join(cohort.sites),
            remedy=f"at least {len(shares)} are needed, not counting duplicates",
        )

    # The second number of the seed tells the purposes apart: sets, sites and forget patients are drawn independently.
    dealt = deal(by_label, _sizes(list(shares.values()), units), np.random.default_rng([seed, 1]))

    return Split({p: subset for subset, hand in zip(shares, dealt, strict=True) for p in chain(*hand)})


def extend_split(
    cohort: Cohort, known: Mapping[str, Subset], config: SplitConfig, seed: int, groups: Groups | None = None
) -> Split:
    """Sets of the patients who are not `known` yet; those who are stay where they are.

    A newcomer joins the set of a known patient of the same group; others go where their label, and the whole, are
    furthest behind their shares.

    Raises:
        ConfigError: the shares leave nothing to train on.
    """
    shares = _shares(config)
    sets = list(shares)
    pace = np.asarray(list(shares.values()))
    rng = np.random.default_rng([seed, 4])
    subset_of: dict[str, Subset] = {}
    counts = []
    newcomers = []

    for stratum in strata(cohort, groups):
        homes = [next((known[p] for p in unit if p in known), None) for unit in stratum]
        subset_of |= {p: home for unit, home in zip(stratum, homes, strict=True) if home for p in unit}
        counts.append(np.array([homes.count(subset) for subset in sets], dtype=float))
        newcomers.append([unit for unit, home in zip(stratum, homes, strict=True) if home is None])

    everywhere = np.sum(counts, axis=0)
    for count, units in zip(counts, newcomers, strict=True):
        for row in rng.permutation(len(units)):
            # Of the label and of the whole together: by label alone, rare labels would all join the same set.
            behind = pace * (count.sum() + 1) - count + pace * (everywhere.sum() + 1) - everywhere
            taker = int(np.argmax(behind))
            count[taker] += 1
            everywhere[taker] += 1
            subset_of |= dict.fromkeys(units[row], sets[taker])

    return Split({p: subset for p, subset in subset_of.items() if p not in known})


def partition(cohort: Cohort, sites: int, seed: int, groups: Groups | None = None) -> Cohort:
    """Deal patients, with all their studies, to sites of equal size named `site-1` to `site-n`.

    Raises:
        CohortError: there are fewer patients than sites, or less than one site.
    """
    by_label = strata(cohort, groups)
    units = sum(len(stratum) for stratum in by_label)
    if not 1 <= sites <= units:
        raise CohortError(f"{units} patients cannot be dealt to {sites} sites", remedy=f"ask for 1 to {units} sites")
    dealt = deal(by_label, _sizes([1.0] * sites, units), np.random.default_rng([seed, 2]))
    site_of = {p: f"site-{number}" for number, hand in enumerate(dealt, start=1) for p in chain(*hand)}

    return Cohort(tuple(replace(s, site=site_of[s.patient]) for s in cohort.studies), cohort.classes)


def choose_forget(cohort: Cohort, split: Split, count: int, seed: int) -> tuple[str, ...]:
    """Choose `count` training patients of one site, stratified by label, sorted by id.

    Raises:
        CohortError: nobody would be left to train on, or nobody is to be forgotten.
    """
    train = cohort.of(split.patients(Subset.TRAIN))
    most = len(train.patients) - 1

    if not 1 <= count <= most:
        raise CohortError(
            f"{count} patients cannot be forgotten of {most + 1} in training",
            where=", ".join(cohort.sites),
            remedy=f"choose 1 to {most}" if most >= 1 else "the site needs more patients",
        )

    hand, _ = deal(strata(train, None), [count, most + 1 - count], np.random.default_rng([seed, 3]))

    return tuple(sorted(chain(*hand)))


def _shares(config: SplitConfig) -> dict[Subset, float]:
    """Shares of the sets that have one, training first."""
    shares = {
        Subset.VALIDATION: config.validation,
        Subset.CALIBRATION: config.calibration,
        Subset.AUDIT: config.audit,
        Subset.TEST: config.test,
    }
    train = 1.0 - sum(shares.values())

    if train <= 1e-9:
        raise ConfigError(
            "the shares of the held-out sets add up to 1 or more",
            where="data.split",
            remedy="leave a share for training",
        )

    return {subset: share for subset, share in ({Subset.TRAIN: train} | shares).items() if share > 0}


def strata(cohort: Cohort, groups: Groups | None) -> list[list[Unit]]:
    """Units by their commonest label; a tie goes to the higher, which for a severity is the graver one."""
    members: dict[tuple[bool, str], set[str]] = defaultdict(set)
    labels: dict[tuple[bool, str], Counter[int]] = defaultdict(Counter)

    for study in cohort.studies:
        group = (groups or {}).get(study.patient)
        # A patient without a group must not meet a group of the same name.
        key = (group is not None, group if group is not None else study.patient)
        members[key].add(study.patient)
        labels[key][study.label] += 1

    strata: dict[int, list[Unit]] = defaultdict(list)
    for key, patients in members.items():
        label = max(labels[key], key=lambda value: (labels[key][value], value))
        strata[label].append(tuple(sorted(patients)))

    return [sorted(strata[label]) for label in sorted(strata)]


def _sizes(shares: Sequence[float], units: int) -> list[int]:
    """Whole numbers in proportion to `shares` that add up to `units`, each at least 1: largest remainder."""
    exact = np.asarray(shares) / sum(shares) * units
    # 1e-9 makes up for products such as 0.45 * 60, which come out just below the whole number.
    sizes = np.maximum(np.floor(exact + 1e-9).astype(int), 1)
    while sizes.sum() < units:
        sizes[np.argmax(exact - sizes)] += 1
    while sizes.sum() > units:
        sizes[np.argmin(np.where(sizes > 1, exact - sizes, np.inf))] -= 1
    return [int(size) for size in sizes]


def deal(strata: Sequence[Sequence[Unit]], sizes: Sequence[int], rng: np.random.Generator) -> list[list[Unit]]:
    """Give each hand its size, and its fair share of every stratum within about one unit.

    Strata follow one another, and the hand that is furthest behind its quota takes the next unit: no hand can be
    behind or ahead by a whole unit at the end, so all sizes are met exactly.
    """
    hands: list[list[Unit]] = [[] for _ in sizes]
    pace = np.asarray(sizes) / sum(sizes)
    behind = np.zeros(len(sizes))

    for row in rng.permutation(len(strata)):
        for column in rng.permutation(len(strata[row])):
            behind += pace
            taker = int(np.argmax(behind))
            behind[taker] -= 1.0
            hands[taker].append(strata[row][column])

    return hands
