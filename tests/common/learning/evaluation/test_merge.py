"""Scores merged from sites are those of one place that only ever compares patients of one site."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.learning.evaluation.figures import Membership, SiteFigures, Utility
from common.learning.evaluation.histograms import EDGES, SMALLEST_CELL, binned_median, histogram, merge_histograms
from common.learning.evaluation.merge import UNMEASURED, AuditMerge, interval, merge, merge_membership
from common.learning.evaluation.metrics import accuracy, macro_auc, macro_f1, mean_loss, merge_utility, utility
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, audit_figures

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=5)


def _site(rng: np.random.Generator, patients: int) -> Scores:
    owners = np.sort(rng.integers(max(patients, 1), size=2 * patients))
    # Rounded logits, so that ties occur.
    logits = rng.normal(scale=2.0, size=(3, len(owners), 3)).round(1)
    return Scores(logits, rng.integers(3, size=len(owners)), owners)


def _membership(auc: float | None, patients: int = 10, **more: object) -> Membership:
    base = {"forget_patients": patients, "control_patients": patients, "variance": 0.01, "ks": 0.1, "ks_p": 0.5}
    return Membership.model_validate(base | {"auc": auc} | more)


@given(SIZES, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_merged_utility_is_pooled_utility_stratified_by_site(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = [_site(rng, n) for n in sizes]
    merged = merge_utility([utility(site, 1, 3) for site in sites])
    wins = np.zeros(3)
    pairs = np.zeros(3)
    offset = 0
    pooled = []

    for site in sites:
        pooled.append(Scores(site.logits, site.labels, site.patients + offset))
        offset += 100
        probs = np.exp(site.log_probs[1])
        units = sorted(set(zip(site.patients.tolist(), site.labels.tolist(), strict=True)))
        unit = {u: probs[(site.patients == u[0]) & (site.labels == u[1])].mean(axis=0) for u in units}

        for c in range(3):
            for a in (u for u in units if u[1] == c):
                for b in (u for u in units if u[1] != c):
                    pairs[c] += 1
                    wins[c] += (unit[a][c] > unit[b][c]) + 0.5 * (unit[a][c] == unit[b][c])

    assert [auc.pairs for auc in merged.auc] == pairs.tolist()
    assert [auc.wins for auc in merged.auc] == wins.tolist()
    logits = np.concatenate([site.logits for site in pooled], axis=1)
    labels, patients = (np.concatenate([getattr(site, name) for site in pooled]) for name in ("labels", "patients"))
    one = utility(Scores(logits, labels, patients), 1, 3)
    assert merged.confusion == one.confusion
    assert merged.patients == one.patients
    assert merged.loss_sum == pytest.approx(one.loss_sum)


@given(SIZES, st.integers(0, 2**32 - 1), st.floats(0.01, 10.0))
@settings(max_examples=100, deadline=None)
def test_no_cell_of_a_histogram_is_under_five_and_the_median_is_in_its_bin(
    sizes: list[int], seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    losses = [rng.exponential(scale, n) for n in sizes]
    parts = [histogram(values) for values in losses]

    for part, values in zip(parts, losses, strict=True):
        assert sum(part.counts) == (len(values) if len(values) >= SMALLEST_CELL else 0)
        assert all(count >= SMALLEST_CELL for count in part.counts)
        assert set(part.edges) <= set(EDGES)
        for low, high, count in zip(part.edges, part.edges[1:], part.counts, strict=False):
            assert count == ((values >= low) & (values < high)).sum()

    merged = merge_histograms(parts)
    assert all(count >= SMALLEST_CELL for count in merged.counts)
    told = np.sort(np.concatenate([v for v in losses if len(v) >= SMALLEST_CELL] or [np.empty(0)]))
    assert sum(merged.counts) == len(told)
    bounds = binned_median(merged)
    assert (bounds is None) == (len(told) == 0)
    if bounds is not None:
        assert bounds[0] <= told[(len(told) - 1) // 2] < bounds[1]


def _utility(losses: list[float]) -> Utility:
    values = np.array(losses)
    logits = np.zeros((3, len(values), 2))
    # A cross-entropy of l is a logit of -log(e^l - 1) against 0.
    logits[:, :, 0] = -np.log(np.expm1(values))
    return utility(Scores(logits, np.zeros(len(values), dtype=np.int64), np.arange(len(values))), 0, 2)


def test_a_merged_median_is_the_middle_of_its_bin_and_off_by_half_of_it_at_most() -> None:
    left = _utility([0.3] * 8 + [2.0] * 5)
    right = _utility([0.3] * 9 + [2.0] * 5)
    bounds = binned_median(merge_histograms([left.losses, right.losses]))
    assert bounds is not None
    merged = merge_utility([left, right])
    assert (left.median_is, merged.median_is) == ("exact", "binned")
    assert merged.loss_median == pytest.approx(sum(bounds) / 2)
    assert merged.loss_median is not None
    assert abs(merged.loss_median - 0.3) <= (bounds[1] - bounds[0]) / 2


def test_a_median_in_the_open_bin_is_not_invented() -> None:
    merged = merge_utility([_utility([12.0] * 6), _utility([15.0] * 6)])
    assert merged.loss_median is None
    assert mean_loss(merged) == pytest.approx(13.5)


def test_utility_of_three_patients_worked_by_hand() -> None:
    logits = np.log([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    found = utility(Scores(np.stack([logits] * 3), np.array([0, 1, 1]), np.arange(3)), 0, 2)
    assert found.confusion == ((1, 0), (1, 1))
    assert accuracy(found) == pytest.approx(2 / 3)
    # Class 0: 2 * 1 / (2 + 1); class 1: 2 * 1 / (1 + 2).
    assert macro_f1(found) == pytest.approx(2 / 3)
    assert macro_auc(found) == 1.0
    assert mean_loss(found) == pytest.approx(-np.log([0.7, 0.4, 0.8]).mean())
    empty = utility(None, 0, 2)
    assert (accuracy(empty), macro_f1(empty), macro_auc(empty), mean_loss(empty)) == (None,) * 4


def test_sites_weigh_by_their_forget_patients() -> None:
    merged = merge_membership([_membership(0.4, 10), _membership(0.8, 30, variance=0.03)])
    assert merged.auc == pytest.approx(0.7)
    assert merged.variance == pytest.approx(0.25**2 * 0.01 + 0.75**2 * 0.03)
    # Fisher: -2 * ln .25 = 2.77 at four degrees of freedom.
    assert merged.ks_p == pytest.approx(0.5966, abs=1e-4)


def test_the_share_of_studies_that_svc_calls_members_is_merged_by_studies() -> None:
    # Ten patients each, but 1 of 10 studies and 30 of 30.
    merged = merge_membership(
        [_membership(0.5, svc=0.1, forget_studies=10), _membership(0.5, svc=1.0, forget_studies=30)]
    )
    assert merged.svc == pytest.approx(31 / 40)
    assert merged.forget_studies == 40
    assert merge_membership([_membership(0.5, svc=0.1, forget_studies=10), _membership(0.5)]).svc is None


def test_patients_at_a_site_that_could_not_be_measured_are_not_forgotten_about() -> None:
    alone = _membership(None, 1, variance=None, ks=None, ks_p=None)
    for parts in ([_membership(0.5), alone], [_membership(0.5), _membership(0.5), alone]):
        assert merge_membership(parts).missing[UNMEASURED].startswith("1 patients")
    assert merge_membership([_membership(0.5), _membership(0.5)]).missing == {}


def test_the_interval_is_students_t_of_the_smaller_group() -> None:
    bounds = interval(_membership(0.5, 5), 0.90)
    assert bounds == pytest.approx((0.5 - 0.2132, 0.5 + 0.2132), abs=1e-4)
    assert interval(_membership(0.95, 5), 0.90) == pytest.approx((0.95 - 0.2132, 1.0), abs=1e-4)


def _audits(count: int) -> dict[str, SiteFigures]:
    """Audits of `count` sites, of which the second and third by number have patients to forget."""
    rng = np.random.default_rng(4)

    def audit(number: int) -> SiteFigures:
        forgets = number in (1, 2)
        others = (_site(rng, 6 if forgets else int(rng.integers(9))) for _ in range(4))
        sets = AuditSets(_site(rng, 6) if forgets else None, *others)
        return audit_figures(sets, 3, None, draws=20, rng=rng)

    return {f"site-{number}": audit(number) for number in range(count)}


def test_audits_merge_to_the_same_bits_in_whatever_order_they_come_and_however_often_they_are_added_up() -> None:
    parts = _audits(150)
    merged = merge(parts)
    backwards = AuditMerge()
    for name in reversed(parts):
        backwards.add(name, parts[name])
    assert backwards.result().model_dump_json() == merged.model_dump_json()
    for group in ("test", "never_seen", "retain"):
        at_once = merge_utility([parts[name].groups[group]["text"] for name in sorted(parts)])
        assert merged.groups[group]["text"] == at_once

    assert list(merged.membership_by_site) == ["site-1", "site-2"]
    assert merged.membership["fused"] == merge_membership([parts[f"site-{n}"].membership["fused"] for n in (1, 2)])
    assert merged.test_by_site == {name: parts[name].groups["test"]["fused"] for name in sorted(parts)}


def test_without_anybody_to_forget_the_merged_audit_says_why_there_is_no_figure() -> None:
    parts = {name: part for name, part in _audits(5).items() if name not in ("site-1", "site-2")}
    merged = merge(parts)
    assert merged.membership == parts["site-0"].membership
    assert merged.membership_by_site == {}


def test_merging_holds_less_than_a_fifth_of_what_the_audits_are() -> None:
    text = _audits(1)["site-0"].model_dump_json()

    def held(keep: Callable[[str, SiteFigures], None]) -> int:
        tracemalloc.start()
        for number in range(192):
            keep(f"site-{number}", SiteFigures.model_validate_json(text))
        found, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        return found

    everything: dict[str, SiteFigures] = {}
    merging = AuditMerge()
    assert held(merging.add) * 5 < held(everything.__setitem__)
    assert len(merging) == len(everything)
