from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError
from common.learning.config import ExperimentConfig, TrainConfig
from common.settings import override, parse, read_toml


def test_the_defaults_need_no_file() -> None:
    assert parse(ExperimentConfig, {}, "here") == ExperimentConfig()


def test_an_unknown_key_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^run\.toml: train\.round: .*configuration\.md"):
        parse(ExperimentConfig, {"train": {"round": 3}}, "run.toml")


def test_of_several_wrong_settings_the_first_is_named_and_the_others_counted() -> None:
    with pytest.raises(ConfigError, match=r"rounds: .* and 1 more"):
        parse(TrainConfig, {"rounds": 0, "lr": -1.0}, "run.toml")


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_a_learning_rate_must_be_above_zero(lr: float) -> None:
    with pytest.raises(ConfigError, match="lr"):
        parse(TrainConfig, {"lr": lr}, "run.toml")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().rounds = 3  # the point of the test


def test_an_assignment_reaches_a_nested_setting_and_leaves_its_neighbours() -> None:
    values = {"train": {"rounds": 2, "lr": 0.5}, "seed": 1}
    assert override(values, ["train.rounds=7", "data.split.test=0.2"]) == {
        "train": {"rounds": 7, "lr": 0.5},
        "seed": 1,
        "data": {"split": {"test": 0.2}},
    }
    assert values == {"train": {"rounds": 2, "lr": 0.5}, "seed": 1}


def test_of_two_assignments_to_one_setting_the_later_counts() -> None:
    assert override({}, ["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=true", True), ("a=0.5", 0.5), ('a="3"', "3"), ("a=[1, 2]", [1, 2]), ("a=none", "none"), ("a=x=y", "x=y")],
)
def test_the_right_side_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert override({}, [text]) == {"a": value}


@pytest.mark.parametrize("text", ["train.rounds", "=3", " =3"])
def test_an_assignment_without_both_sides_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        override({}, [text])


def test_a_file_is_read_as_toml(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[train]\nrounds = 3\n")
    assert read_toml(tmp_path / "run.toml") == {"train": {"rounds": 3}}


@pytest.mark.parametrize("content", [b"rounds = \n", b"rounds = '\xff'\n"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: not valid TOML"):
        read_toml(tmp_path / "run.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"away\.toml: no such file"):
        read_toml(tmp_path / "away.toml")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=tmp_path.name):
        read_toml(tmp_path)


def test_campaigns_of_earlier_versions_may_state_reference_models() -> None:
    assert parse(ExperimentConfig, {"campaign": {"references": 4}}, "here") == ExperimentConfig()
