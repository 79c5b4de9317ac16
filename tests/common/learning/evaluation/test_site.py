"""Code that chooses cannot see the patients that judge the choice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from common.learning.evaluation.distance import logit_distance
from common.learning.evaluation.merge import merge, merge_selection
from common.learning.evaluation.scores import Scores
from common.learning.evaluation.site import AuditSets, SelectionSets, audit_figures, select_figures


def test_selection_sets_have_no_place_for_audit_or_test_patients() -> None:
    assert {field.name for field in fields(SelectionSets)} == {"forget", "validation", "calibration"}
    for name in ("never_seen", "test"):
        with pytest.raises(TypeError, match=name):
            SelectionSets(forget=None, validation=None, calibration=None, **{name: None})


def test_the_function_that_selects_takes_selection_sets_and_no_other_scores() -> None:
    taken = inspect.get_annotations(select_figures, eval_str=True)
    assert taken["sets"] is SelectionSets
    assert AuditSets not in taken.values()
    assert Scores not in taken.values()
    assert not issubclass(AuditSets, SelectionSets)


def test_handing_audit_sets_to_selection_fails(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    some = make_scores(rng, 6)
    with pytest.raises(AttributeError, match="validation"):
        select_figures(AuditSets(some, some, some, some, some), 3, rng)  # type: ignore[arg-type]  # the point


def test_selection_compares_with_calibration_patients(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    forget = make_scores(rng, 12, confidence=4.0)
    figures = select_figures(SelectionSets(forget, make_scores(rng, 7), make_scores(rng, 11)), 3, rng)
    assert figures.validation["fused"].patients == 7
    assert figures.membership["fused"].control_patients == 11


def test_the_audit_compares_with_audit_patients_and_no_calibration_patient_moves_its_auc(
    make_scores: Callable[..., Scores],
) -> None:
    rng = np.random.default_rng(0)
    sets = AuditSets(*(make_scores(rng, n) for n in (12, 20, 11, 15, 9)))
    first = audit_figures(sets, 3, None, draws=50, rng=np.random.default_rng(1))
    other = replace(sets, calibration=make_scores(rng, 30))
    second = audit_figures(other, 3, None, draws=50, rng=np.random.default_rng(1))
    assert first.membership["fused"].control_patients == 15
    assert first.membership["fused"].auc == second.membership["fused"].auc
    assert {g: f["fused"].patients for g, f in first.groups.items()} == {
        "forget": 12, "retain": 20, "never_seen": 15, "test": 9,
    }  # fmt: skip


def test_figures_go_over_the_wire_and_back_and_hold_no_row_of_a_patient(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    sets = AuditSets(*(make_scores(rng, 40) for _ in range(5)))
    figures = audit_figures(sets, 3, None, draws=50, rng=rng)
    text = figures.model_dump_json()
    assert type(figures).model_validate_json(text) == figures

    def longest(value: object) -> int:
        if isinstance(value, dict):
            return max(map(longest, value.values()), default=0)
        if isinstance(value, list):
            return max(len(value), *map(longest, value)) if value else 0
        return 0

    # A histogram has 21 edges at most, and 40 patients are more.
    assert longest(figures.model_dump(mode="json")) <= 21


def test_sites_merge_in_any_order(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    parts = {
        name: audit_figures(AuditSets(*(make_scores(rng, n) for _ in range(5))), 3, None, draws=50, rng=rng)
        for name, n in (("b", 12), ("a", 20), ("c", 7))
    }
    merged = merge(parts)
    assert merged == merge(dict(reversed(parts.items())))
    assert set(merged.test_by_site) == {"a", "b", "c"}
    assert merged.membership["image"].forget_patients == 39
    chosen = {n: select_figures(SelectionSets(*(make_scores(rng, 6) for _ in range(3))), 3, rng) for n in "ab"}
    assert merge_selection(chosen).validation["text"].patients == 12


def test_logit_distance_is_zero_for_the_same_answers_and_two_for_opposite_ones(
    make_scores: Callable[..., Scores],
) -> None:
    scores = make_scores(np.random.default_rng(0), 8)
    shifted, opposite = (replace(scores, logits=logits) for logits in (3 * scores.logits + 5, -scores.logits))
    assert logit_distance(scores, shifted) == pytest.approx(0.0)
    assert logit_distance(scores, opposite) == pytest.approx(2.0)
