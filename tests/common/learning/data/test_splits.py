from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CohortError, ConfigError
from common.learning.config import SplitConfig
from common.learning.data.splits import choose_forget, extend_split, partition, split_cohort
from common.learning.records import Cohort, Split, Study, Subset


def cohort_of(patients: int, seed: int = 0, site: str = "a") -> Cohort:
    """Patients of 1 to 3 studies each, most with one label for all of them."""
    rng = np.random.default_rng(seed)
    studies = []

    for number in range(patients):
        label = int(rng.integers(4))
        for count in range(int(rng.integers(1, 4))):
            name = f"p{number}"
            studies.append(Study(name, f"{name}-{count}", Path(f"{name}-{count}.png"), "clear", label, site))

    return Cohort(tuple(studies), ("0", "1", "2", "3"))


def shuffled(cohort: Cohort, seed: int) -> Cohort:
    order = np.random.default_rng(seed).permutation(len(cohort))
    return Cohort(tuple(cohort.studies[i] for i in order), cohort.classes)


def label_share(cohort: Cohort, patients: tuple[str, ...]) -> np.ndarray:
    label = {study.patient: study.label for study in cohort.studies}
    return np.bincount([label[p] for p in patients], minlength=4) / len(patients)


@settings(max_examples=40, deadline=None)
@given(patients=st.integers(5, 90), seed=st.integers(0, 2**20))
def test_every_patient_is_in_exactly_one_set_and_no_set_is_empty(patients: int, seed: int) -> None:
    cohort = cohort_of(patients, seed)
    split = split_cohort(cohort, SplitConfig(), seed)
    sets = [split.patients(subset) for subset in Subset]
    assert sorted(p for members in sets for p in members) == sorted(cohort.patients)
    assert all(sets)


def test_sizes_follow_the_shares() -> None:
    split = split_cohort(cohort_of(100), SplitConfig(validation=0.1, calibration=0.15, audit=0.2, test=0.25), 0)
    assert [len(split.patients(s)) for s in Subset] == [30, 10, 15, 20, 25]


def test_a_set_with_share_zero_stays_empty() -> None:
    split = split_cohort(cohort_of(20), SplitConfig(validation=0.0), 0)
    assert split.patients(Subset.VALIDATION) == ()


def test_every_set_has_the_labels_of_the_cohort() -> None:
    cohort = cohort_of(400)
    split = split_cohort(cohort, SplitConfig(), 3)
    whole = label_share(cohort, cohort.patients)
    for subset in Subset:
        members = split.patients(subset)
        np.testing.assert_allclose(label_share(cohort, members), whole, atol=1.01 / len(members))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    cohort = cohort_of(40, seed)
    other = shuffled(cohort, seed)
    split = split_cohort(cohort, SplitConfig(), seed)
    assert split_cohort(other, SplitConfig(), seed) == split
    assert choose_forget(other, split, 4, seed) == choose_forget(cohort, split, 4, seed)
    sites = {s.study: s.site for s in partition(cohort, 3, seed).studies}
    assert {s.study: s.site for s in partition(other, 3, seed).studies} == sites


def test_another_seed_gives_another_split() -> None:
    cohort = cohort_of(40)
    assert split_cohort(cohort, SplitConfig(), 1) != split_cohort(cohort, SplitConfig(), 2)


def test_duplicates_stay_in_one_set() -> None:
    cohort = cohort_of(40)
    groups = {p: f"g{number // 4}" for number, p in enumerate(cohort.patients)}
    split = split_cohort(cohort, SplitConfig(), 0, groups)
    for one, other in pairwise(cohort.patients):
        if groups[one] == groups[other]:
            assert split.subset_of[one] is split.subset_of[other]


def test_partition_deals_whole_patients_to_sites_of_equal_size() -> None:
    dealt = partition(cohort_of(41), 4, 0)
    assert dealt.sites == ("site-1", "site-2", "site-3", "site-4")
    patients_of = {site: {study.patient for study in dealt.studies if study.site == site} for site in dealt.sites}
    sizes = [len(patients) for patients in patients_of.values()]
    assert sorted(sizes) == [10, 10, 10, 11]  # a patient at two sites would count twice
    assert {s.study for s in dealt.studies} == {s.study for s in cohort_of(41).studies}


def test_the_forgotten_are_training_patients_with_the_labels_of_training() -> None:
    cohort = cohort_of(300)
    split = split_cohort(cohort, SplitConfig(), 0)
    train = split.patients(Subset.TRAIN)
    forget = choose_forget(cohort, split, 40, 0)
    assert len(forget) == 40
    assert set(forget) < set(train)
    np.testing.assert_allclose(label_share(cohort, forget), label_share(cohort, train), atol=1.01 / 40)


@pytest.mark.parametrize("count", [0, 3])
def test_somebody_is_forgotten_and_somebody_left(count: int) -> None:
    cohort = cohort_of(3)
    split = Split(dict.fromkeys(cohort.patients, Subset.TRAIN))
    with pytest.raises(CohortError, match="choose 1 to 2"):
        choose_forget(cohort, split, count, 0)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(CohortError, match="4 cannot fill 5 sets"):
        split_cohort(cohort_of(4), SplitConfig(), 0)
    with pytest.raises(CohortError, match="1 to 4 sites"):
        partition(cohort_of(4), 5, 0)


def test_shares_that_leave_no_training_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        split_cohort(cohort_of(20), SplitConfig(validation=0.4, calibration=0.2, audit=0.2, test=0.2), 0)


def test_several_sites_are_not_split_together() -> None:
    cohort = cohort_of(20)
    mixed = replace(cohort, studies=cohort.studies + cohort_of(20, site="b").studies)
    with pytest.raises(CohortError, match="several sites"):
        split_cohort(mixed, SplitConfig(), 0)


@settings(max_examples=25, deadline=None)
@given(before=st.integers(5, 60), after=st.integers(1, 60), seed=st.integers(0, 2**20))
def test_newcomers_get_a_set_each_and_bring_the_whole_towards_its_shares(before: int, after: int, seed: int) -> None:
    everybody = cohort_of(before + after, seed)
    known = split_cohort(everybody.of({f"p{n}" for n in range(before)}), SplitConfig(), seed).subset_of
    new = extend_split(everybody, known, SplitConfig(), seed).subset_of
    assert new.keys() == set(everybody.patients) - known.keys()
    assert new == extend_split(shuffled(everybody, seed), known, SplitConfig(), seed).subset_of
    shares = {Subset.TRAIN: 0.45, Subset.VALIDATION: 0.10, Subset.TEST: 0.15}
    for subset, share in shares.items():
        size = sum(s is subset for s in [*known.values(), *new.values()])
        assert abs(size - share * (before + after)) < 4


def test_a_newcomer_joins_the_set_of_a_known_patient_of_the_same_group() -> None:
    everybody = cohort_of(12)
    known = {f"p{n}": list(Subset)[n % 5] for n in range(10)}
    new = extend_split(everybody, known, SplitConfig(), 0, {"p3": "p3", "p10": "p3", "p4": "p4", "p11": "p4"})
    assert new.subset_of == {"p10": known["p3"], "p11": known["p4"]}
