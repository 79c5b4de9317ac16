"""Who may stop a candidate, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import ClassAuc, FederationFigures, Utility
from server.rounds.checks.veto import veto

CONFIG = DecisionConfig(utility_tolerance=0.05)


def measured(right: tuple[int, int], of: int, auc: float = 0.9) -> Utility:
    """Two classes of `of` patients each, so many of each called right."""
    a, b = right
    pairs = of * of

    return Utility(
        patients=2 * of,
        confusion=((a, of - a), (of - b, b)),
        auc=tuple(ClassAuc(wins=auc * pairs, pairs=pairs, positives=of, negatives=of) for _ in range(2)),
        loss_sum=1.0,
        loss_median=0.5,
    )


def figures(sites: Mapping[str, Utility]) -> FederationFigures:
    return FederationFigures(groups={}, membership={}, membership_by_site={}, test_by_site=dict(sites))


def vetoes(before: Mapping[str, Utility], after: Mapping[str, Utility]) -> list[str]:
    return veto(figures(before), figures(after), ["attacker"], CONFIG)


def test_a_candidate_that_is_as_good_everywhere_is_not_vetoed() -> None:
    same = {"north": measured((30, 32), 40), "attacker": measured((30, 30), 40)}
    assert vetoes(same, same) == []
    assert vetoes({}, {}) == []


def test_a_class_that_is_no_longer_called_right_is_vetoed_though_the_order_stays() -> None:
    before = {"north": measured((30, 32), 40), "south": measured((30, 32), 40)}
    after = {**before, "north": measured((38, 4), 40)}
    assert vetoes(before, after) == [
        "north: 10% of class 1 are called right, 80% before",
        "other sites together: 45% of class 1 are called right, 80% before",
    ]


def test_an_auc_that_certainly_fell_is_vetoed() -> None:
    before = {"north": measured((30, 32), 40, auc=0.9)}
    after = {"north": measured((30, 32), 40, auc=0.6)}
    # Of two classes the other's is the same figure.
    assert vetoes(before, after) == ["north: test AUC of class 1 dropped by 0.30"]


def test_what_the_forgetting_site_says_of_itself_counts_neither_way() -> None:
    before = {"north": measured((30, 32), 40), "attacker": measured((40, 40), 40)}
    assert vetoes(before, {**before, "attacker": measured((0, 0), 40, auc=0.1)}) == []
    assert vetoes(before, {"north": before["north"]}) == []


def test_one_patient_who_is_called_wrong_now_is_no_veto() -> None:
    assert vetoes({"north": measured((1, 1), 1)}, {"north": measured((0, 1), 1)}) == []
    assert vetoes({"north": measured((38, 40), 40)}, {"north": measured((36, 40), 40)}) == []


def test_what_is_too_little_at_each_site_is_enough_at_all_of_them_together() -> None:
    sites = [f"site-{number}" for number in range(8)]
    before = dict.fromkeys(sites, measured((2, 2), 2))
    after = dict.fromkeys(sites, measured((2, 0), 2))
    assert vetoes(before, after) == ["other sites together: 0% of class 1 are called right, 100% before"]


def test_a_site_that_sends_no_figures_of_the_candidate_refuses() -> None:
    before = {"north": measured((30, 32), 40), "south": measured((30, 32), 40)}
    assert vetoes(before, {"north": before["north"]}) == ["south: sent no test figures of the candidate"]


@pytest.mark.parametrize("right", [(13, 14), (14, 14), (9, 18)])
def test_a_fall_of_one_class_from_90_to_68_percent_at_two_sites_of_20_patients_is_seen(right: tuple[int, int]) -> None:
    before = {"north": measured((18, 18), 20), "south": measured((18, 18), 20)}
    after = {"north": measured((18, right[0]), 20), "south": measured((18, right[1]), 20)}
    (reason,) = [text for text in vetoes(before, after) if text.startswith("other sites together")]
    assert reason == f"other sites together: {sum(right) / 40:.0%} of class 1 are called right, 90% before"


def test_a_smaller_fall_of_all_classes_is_seen_though_no_class_alone_shows_it() -> None:
    before = {"north": measured((18, 18), 20), "south": measured((18, 18), 20)}
    after = {"north": measured((15, 15), 20), "south": measured((14, 14), 20)}
    assert vetoes(before, after) == ["other sites together: balanced accuracy on test patients dropped by 0.18"]


def test_a_single_other_site_is_judged_as_all_sites_together() -> None:
    assert vetoes({"north": measured((36, 36), 40)}, {"north": measured((36, 27), 40)}) == [
        "north: 68% of class 1 are called right, 90% before"
    ]


def test_a_loss_of_auc_that_no_site_alone_shows_is_seen_at_all_of_them_together() -> None:
    sites = [f"site-{number}" for number in range(4)]
    before = dict.fromkeys(sites, measured((16, 16), 20, auc=0.9))
    after = dict.fromkeys(sites, measured((16, 16), 20, auc=0.74))
    assert vetoes(before, after) == ["other sites together: test AUC of class 1 dropped by 0.16"]


def test_the_same_figures_are_judged_alike_whatever_the_share_of_a_site_that_imported_patients() -> None:
    before = {"north": measured((36, 36), 40), "south": measured((10, 10), 20)}
    after = {"north": measured((36, 36), 40), "south": measured((100, 100), 200)}
    assert vetoes(before, after) == []


def test_many_sites_make_a_chance_veto_of_one_of_them_no_likelier() -> None:
    lost = {"site-0": measured((16, 10), 20)}
    pair = {"site-1": measured((16, 16), 20)}
    assert vetoes({**pair, "site-0": measured((16, 16), 20)}, {**pair, **lost}) == []
    assert vetoes({**pair, "site-0": measured((16, 16), 20)}, {**pair, "site-0": measured((16, 2), 20)}) != []
