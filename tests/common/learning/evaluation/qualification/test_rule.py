"""The statistics of qualification, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from common.errors import CohortError
from common.learning.evaluation.qualification.comparison import Comparison, Margins, compare, distance
from common.learning.evaluation.qualification.figures import ClassLoss, Moments, Shared, SiteRehearsals
from common.learning.evaluation.qualification.intervals import combined, estimate, share_bound
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.rule import Qualification, qualify
from common.learning.evaluation.qualification.tally import Rehearsals, moments, shared_variance, tally
from common.learning.evaluation.qualification.utility import class_loss

Floats = NDArray[np.float64]
LABELS = np.arange(60) % 3


def margins(rng: np.random.Generator, size: int, shift: float = 0.0) -> Margins:
    return Margins(rng.standard_normal((3, size)) + shift, rng.standard_normal((3, 60)))


def stacked(rng: np.random.Generator, count: int, size: int, *, after: float, before: float = 2.0) -> Comparison:
    """Rehearsals whose patients lie `after` above the never-seen ones, and `before` it before.

    A patient who is easy for one model is easy for the others.
    """
    easy = rng.standard_normal((count, 3, size))
    easy_controls = rng.standard_normal((3, 60))

    def of(shift: float) -> Margins:
        patients = easy + 0.4 * rng.standard_normal((count, 3, size)) + shift
        controls = easy_controls + 0.4 * rng.standard_normal((3, 60))
        return Margins(patients, np.broadcast_to(controls, (count, 3, 60)))

    return compare(of(after), of(before), of(0.0), rng.integers(3, size=(count, size)), LABELS)


def flat_loss() -> ClassLoss:
    values = moments(np.full(40, 0.001) + np.arange(40) * 1e-5, np.ones(40))
    return ClassLoss(loss=values, shared=Shared(), positives=50, negatives=50)


def report(
    name: str, rng: np.random.Generator, *, after: float = 0.0, before: float = 2.0, count: int = 20, size: int = 6
) -> SiteRehearsals:
    groups = [Rehearsals(size, stacked(rng, count, size, after=after, before=before))]
    return tally(name, groups, LABELS, [flat_loss()], PLAN)


PLAN = QualificationPlan(rehearsals=40, sizes=(6,))


def both(*, after: float = 0.0, before: float = 2.0, seed: int = 0) -> Qualification:
    rng = np.random.default_rng(seed)
    return qualify(PLAN, {name: report(name, rng, after=after, before=before) for name in ("a", "b")})


def test_d_is_the_share_of_same_label_controls_below_a_patient_minus_the_same_under_the_fold_model() -> None:
    rng = np.random.default_rng(1)
    after, before, floor = margins(rng, 4, 0.5), margins(rng, 4, 1.0), margins(rng, 4)
    labels = np.array([0, 1, 1, 2])

    found = compare(after, before, floor, labels, LABELS)

    def place(m: Margins, branch: int, patient: int) -> float:
        others = m.controls[branch, labels[patient] == LABELS]
        return float(stats.percentileofscore(others, m.patients[branch, patient], kind="mean")) / 100

    for branch in range(3):
        expected = np.mean([place(after, branch, i) - place(floor, branch, i) for i in range(4)])
        assert found.rehearsed[branch] == pytest.approx(expected)
        by_label = [found.rehearsed_by_control[branch, label == LABELS].mean() for label in range(3)]
        assert sum(by_label) == pytest.approx(expected)


def test_each_patient_may_have_a_fold_model_of_their_own() -> None:
    rng = np.random.default_rng(2)
    after, before = margins(rng, 3), margins(rng, 3)
    own = Margins(rng.standard_normal((3, 3)), rng.standard_normal((3, 3, 60)))
    labels = np.array([0, 1, 2])

    together = compare(after, before, own, labels, LABELS)

    alone = [
        compare(
            Margins(after.patients[:, [i]], after.controls), Margins(before.patients[:, [i]], before.controls),
            Margins(own.patients[:, [i]], own.controls[:, i]), labels[[i]], LABELS,
        )
        for i in range(3)
    ]  # fmt: skip
    assert together.rehearsed == pytest.approx(np.mean([one.rehearsed for one in alone], axis=0))
    assert together.high.tolist() == np.sum([one.high for one in alone], axis=0).tolist()


def test_the_variance_of_rehearsals_of_one_size_is_that_of_a_sample_mean() -> None:
    values = np.random.default_rng(3).normal(size=40)

    found = moments(values[:15], np.full(15, 7.0)) + moments(values[15:], np.full(25, 7.0))

    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1) / 40)


def test_without_shared_patients_the_interval_is_that_of_the_t_test() -> None:
    values = np.random.default_rng(4).normal(size=12)

    found = estimate(moments(values, np.ones(12)), Shared())

    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.90)
    assert found.interval(0.05) == pytest.approx((expected.low, expected.high))


def test_degrees_of_freedom_of_two_variances_are_those_of_welch() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=11), rng.normal(scale=3, size=17)

    found = estimate(moments(ours, np.ones(11)), Shared.model_validate(
        {"variance": theirs.var(ddof=1) / 17 * 11**2, "by_freedom": (theirs.var(ddof=1) / 17 * 11**2) ** 2 / 16}
    ))  # fmt: skip

    welch = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.freedom == pytest.approx(welch.df)
    difference = estimate(moments(ours - theirs.mean(), np.ones(11)), Shared())
    assert combined([(1.0, difference)]).freedom == pytest.approx(10)


def test_shared_variance_covers_the_truth_that_rehearsals_alone_do_not_see() -> None:
    rng = np.random.default_rng(6)
    means, errors = [], []

    for _ in range(150):
        groups = [Rehearsals(5, stacked(rng, 40, 5, after=0.0))]
        found = tally("a", groups, LABELS, [], PLAN).branches["fused"]
        means.append(found.rehearsed.mean)
        errors.append(estimate(found.rehearsed, found.rehearsed_shared).error)

    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)
    assert found.rehearsed.variance**0.5 < 0.8 * np.std(means)


def test_a_stratum_with_one_control_adds_no_variance_of_its_own() -> None:
    values = np.array([1.0, 3.0, 100.0])

    found = shared_variance(values, np.array([0, 0, 1]))

    assert found.variance == pytest.approx(np.var([1.0, 3.0], ddof=1) / 2)


@pytest.mark.parametrize(("count", "of"), [(0, 40), (7, 200), (16, 200), (200, 200)])
def test_the_bound_of_a_share_is_that_of_the_exact_binomial_test(count: int, of: int) -> None:
    expected = stats.binomtest(count, of).proportion_ci(0.90, method="exact").high

    assert share_bound(count, of, 0.05) == pytest.approx(expected)


def test_a_procedure_that_forgets_qualifies() -> None:
    found = both()

    assert found.qualified, found.findings
    assert found.patients == 240
    assert not found.blind
    assert len(found.distances) == 40


def test_a_procedure_that_forgets_nothing_fails_by_mean_by_individuals_and_by_nearness() -> None:
    found = both(after=2.0)

    assert {finding.part for finding in found.findings} == {"Q1", "Q2", "Q5"}


def test_a_procedure_that_over_forgets_does_not_qualify() -> None:
    assert "Q1" in {finding.part for finding in both(after=-1.0).findings}


def test_a_model_without_memory_is_never_qualified() -> None:
    found = both(before=0.2)

    assert "Q3" in {finding.part for finding in found.findings}
    assert any("too little memory to measure" in finding.text for finding in found.findings)
    assert found.blind == ("image", "text", "fused")


def test_two_attempts_share_the_level() -> None:
    reports = {name: report(name, np.random.default_rng(9)) for name in ("a", "b")}

    once = qualify(PLAN, reports).branches["fused"]
    twice = qualify(PLAN.model_copy(update={"attempts": 2}), reports).branches["fused"]

    assert twice.high - twice.low > once.high - once.low
    assert twice.share_bound > once.share_bound


def test_too_few_never_seen_patients_are_named_by_number() -> None:
    found = qualify(PLAN, {"a": report("a", np.random.default_rng(7), count=40)})

    assert [f.text for f in found.findings if f.part == "size"] == ["60 never-seen patients, 100 are needed: 40 more"]


def test_rehearsals_that_are_missing_are_counted() -> None:
    rng = np.random.default_rng(8)
    found = qualify(PLAN, {"a": report("a", rng, count=19), "b": report("b", rng, count=20)})

    assert "39 rehearsals of 40 were scored" in {finding.text for finding in found.findings}


def test_figures_of_fewer_than_five_patients_do_not_leave() -> None:
    few = [Rehearsals(1, stacked(np.random.default_rng(0), 4, 1, after=0.0))]

    with pytest.raises(CohortError, match="too few to report"):
        tally("a", few, LABELS, [], PLAN)


def test_a_report_tells_neither_the_order_nor_the_sign_of_a_distance() -> None:
    found = report("a", np.random.default_rng(10))

    assert list(found.distances) == sorted(round(value, 1) for value in found.distances)
    assert min(found.distances) >= 0


def test_the_distance_does_not_depend_on_the_sign() -> None:
    values = np.array([0.1, -0.3, 0.2])

    assert distance(values, 5) == distance(-values, 5)
    assert distance(values, 9) > distance(values, 1)


def test_the_loss_of_auc_is_paired_as_by_delong() -> None:
    rng = np.random.default_rng(11)
    positive = np.arange(50) < 20
    before = positive + rng.standard_normal(50)
    after = before + 0.1 * rng.standard_normal((2, 50))

    found = class_loss(before, after, positive)

    aucs = [stats.mannwhitneyu(s[positive], s[~positive]).statistic / 600 for s in (before, *after)]
    assert found.loss.mean == pytest.approx(aucs[0] - np.mean(aucs[1:]))
    unpaired = 2 * aucs[0] * (1 - aucs[0]) / 20
    assert 0 < found.shared.variance / 4 < unpaired / 5


def test_a_loss_of_utility_at_one_hospital_with_enough_patients_is_seen() -> None:
    rng = np.random.default_rng(12)
    reports = {name: report(name, rng) for name in ("a", "b")}
    bad = flat_loss().model_copy(update={"loss": moments(np.full(40, 0.08) + np.arange(40) * 1e-5, np.ones(40))})

    found = qualify(PLAN, {**reports, "b": reports["b"].model_copy(update={"utility": (bad,)})})

    texts = [finding.text for finding in found.findings if finding.part == "Q4"]
    assert any(text.startswith("b: test AUC of class 0") for text in texts)


def test_moments_of_nothing_have_no_mean() -> None:
    assert Moments().mean == 0.0
    assert Moments().variance == 0.0


def test_the_rule_asks_for_a_patient_of_each_size() -> None:
    plan = QualificationPlan(sizes=(1, 5))

    assert [plan.size(number) for number in range(4)] == [1, 5, 1, 5]
    assert plan.covers(3)
    assert not plan.covers(6)
