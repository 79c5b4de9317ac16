"""Settings are changed in their file: validated as a whole, comments and order kept, nothing half-written."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typer.testing import CliRunner

from common.errors import ConfigError
from common.platform.processes.up_lock import only_one
from common.platform.settings_file import set_values, unset_values
from common.settings import Settings
from server.cli import app
from server.settings import ServerFolder

TEXT = """\
# Ours since 2026.
name = "north"  # as on the door

[ports]
# Behind the firewall.
monitor = 1
"""


class Ports(Settings):
    monitor: int = 9
    gateway: int = 8


class Whole(Settings):
    name: str
    other: str = ""
    classes: tuple[str, ...] = ()
    split: dict[str, float] = Field(default_factory=dict)
    ratio: float = 0.5
    on: bool = False
    ports: Ports = Ports()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def test_values_are_set_and_all_else_stays(file: Path) -> None:
    values = {"ports.monitor": "2", "ports.gateway": "3", "on": "true", "classes": '["no", "yes"]', "ratio": "1e-3"}
    assert set_values(file, Whole, values)["classes"] == ["no", "yes"]
    text = file.read_text()
    assert Whole.model_validate(tomllib.loads(text)) == Whole(
        name="north", classes=("no", "yes"), on=True, ratio=1e-3, ports=Ports(monitor=2, gateway=3)
    )
    for comment in ("# Ours since 2026.", 'name = "north"  # as on the door', "# Behind the firewall.\n"):
        assert comment in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("text", ["south", "007", "1", "2026-01-01", "127.0.0.1", "true", 'a "b" \\ c', "x # y"])
def test_what_looks_like_a_number_is_text_where_the_setting_is_text(file: Path, text: str) -> None:
    set_values(file, Whole, {"name": text, "other": text})
    found = tomllib.loads(file.read_text())
    assert (found["name"], found["other"]) == (text, text)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("ports.monitor", "many", "ports.monitor"),
        ("ports.moniter", "1", "ports.moniter"),
        ("nothing.there", "1", "nothing"),
        ("name.first", "1", "name"),
        ("", "1", "is not the name"),
        ("ports..monitor", "1", "is not the name"),
    ],
)
def test_what_is_not_valid_changes_nothing(file: Path, key: str, value: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        set_values(file, Whole, {"ratio": "0.25", key: value})
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == ["site.toml"]


def test_a_file_that_is_wrong_already_is_named_and_not_touched(file: Path) -> None:
    for content in ("name = ", "other = 1\n"):
        file.write_text(content)
        with pytest.raises(ConfigError, match=r"site\.toml"):
            set_values(file, Whole, {"name": "south"})
        assert file.read_text() == content


def test_a_table_and_a_key_before_the_first_table_are_put_where_toml_wants_them(file: Path) -> None:
    set_values(file, Whole, {"split": "{ test = 0.25, audit = 0.5 }", "ratio": "0.75"})
    assert tomllib.loads(file.read_text())["split"] == {"test": 0.25, "audit": 0.5}
    assert tomllib.loads(file.read_text())["ratio"] == 0.75


def test_unset_brings_the_default_back_and_a_setting_that_must_be_there_stays(file: Path) -> None:
    assert unset_values(file, Whole, ["ports.monitor", "ports.gateway", "on"]) == {
        "ports.monitor": 9,
        "ports.gateway": 8,
        "on": False,
    }
    with pytest.raises(ConfigError, match="name"):
        unset_values(file, Whole, ["name"])
    assert 'name = "north"  # as on the door' in file.read_text()


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "site.toml"
    link.parent.mkdir()
    link.symlink_to(file)
    set_values(link, Whole, {"on": "true"})
    assert link.is_symlink()
    assert tomllib.loads(file.read_text())["on"] is True


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_any_text_comes_back_as_it_was_given(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "site.toml"
    path.write_text(TEXT)
    quoted = json.dumps(text, ensure_ascii=True) if all(ord(c) < 0x10000 for c in text) else None
    if quoted is not None:
        set_values(path, Whole, {"name": quoted})
        assert tomllib.loads(path.read_text())["name"] == text


@pytest.fixture
def run(coordinator: ServerFolder) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(app, ["settings", *words, "--dir", str(coordinator.root)])


def test_the_commands_show_set_and_say_when_a_restart_is_needed(
    run: Callable[..., Result], coordinator: ServerFolder
) -> None:
    done = run("set", "policy.window_hours", "2.5", "experiment.device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert coordinator.settings().policy.window_hours == 2.5
    shown = json.loads(run("show", "policy", "--json").stdout)
    assert shown["policy.window_hours"] == 2.5
    assert all(name.startswith("policy.") for name in shown)
    with only_one(coordinator.root):
        assert "restart it" in run("unset", "policy.window_hours").stderr
    for words in (("set", "policy.window_hours"), ("show", "polic"), ("set", "policy.window_hours", "soon")):
        refused = run(*words)
        assert refused.exit_code == 2, words
        assert len(refused.stderr.strip().splitlines()) == 1 or "Usage" in refused.stderr


def test_a_password_is_never_shown(run: Callable[..., Result]) -> None:
    url = "postgresql+pg8000://fed:hush@db/fed"
    assert "hush" not in run("set", "database", url).output
    shown = run("show", "database").output
    assert "hush" not in shown
    assert "fed:***@db" in shown
