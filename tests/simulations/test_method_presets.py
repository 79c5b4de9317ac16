from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import ConfigError
from server.rounds.unlearning.methods import method_names
from simulations.run.settings import load_settings, merged, method_preset_names, with_method

METHODS_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "methods.md"


def test_every_method_has_one_preset_and_a_row_in_the_reference() -> None:
    assert method_preset_names() == method_names()
    listed = re.findall(r"^\| `(\w+)` \|", METHODS_PAGE.read_text(encoding="utf-8"), flags=re.M)
    assert sorted(listed) == list(method_names())


@pytest.mark.parametrize("name", method_preset_names())
def test_a_methods_preset_selects_it_and_leaves_the_rest_of_the_preset_below(name: str) -> None:
    plain = load_settings("covid", [], {})
    found = load_settings("covid", [], {}, method=name)
    assert found.experiment.unlearn.method == name
    assert found.experiment.data == plain.experiment.data
    assert found.experiment.train.lr == plain.experiment.train.lr
    assert found.manifest == plain.manifest


def test_an_assignment_wins_over_the_methods_preset_and_that_over_the_preset() -> None:
    assert load_settings("u-lira", [], {}).experiment.unlearn.passes == 20
    assert load_settings("u-lira", [], {}, "forget_mi_paper").experiment.unlearn.passes == 30
    assert load_settings("u-lira", ["unlearn.passes=7"], {}, "forget_mi_paper").experiment.unlearn.passes == 7


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'magic' .*neg_grad_plus"):
        load_settings(None, [], {}, method="magic")


def test_a_methods_preset_can_be_laid_over_settings_that_were_read_before() -> None:
    config = load_settings("covid", ["train.rounds=3", "unlearn.noise=none"], {})
    assert with_method(config, "scrub") == load_settings("covid", ["train.rounds=3", "unlearn.noise=none"], {}, "scrub")


def test_tables_are_merged_and_values_replaced() -> None:
    below = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    above = {"a": {"y": {"w": 4}, "x": 5}, "b": {"c": 6}}
    assert merged(below, above) == {"a": {"x": 5, "y": {"z": 2, "w": 4}}, "b": {"c": 6}}
