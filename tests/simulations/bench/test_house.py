"""What `make house` counts, on a package whose figures are known by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.bench.house import is_participle, measure

ROOT = Path(__file__).parents[3]

_MODULE = '''\
"""A module."""

# Twice: the first call warms the cache.
LIMIT = 2  # noqa: PLR2004


def first(values):
    """Add them up."""
    found = sum(values)

    left, right = found, LIMIT
    return left + right


# noqa: ERA001
def second(values):
    for value in values:
        total = value
    return total
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "common" / "room"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "module.py").write_text(_MODULE)
    (folder / "other.py").write_text("NAME = 1\n")

    generated = tmp_path / "client" / "migrations"
    generated.mkdir(parents=True)
    (generated / "revision.py").write_text("found = 1\n" * 50)
    (tmp_path / "client" / "messages_pb2.py").write_text("found = 1\n" * 50)
    return tmp_path


def test_each_figure_is_what_a_person_counts(package: Path) -> None:
    figures = measure(package)
    assert figures.largest_folder == ("common/room", 2)
    assert figures.median_files == 2
    assert figures.longest_file == ("common/room/module.py", 19)
    # One comment in 14 lines that are not blank: the linter's directives are no comments.
    assert figures.comments == pytest.approx(100 / 14)
    # One blank line in the 6 and 4 lines of the functions.
    assert figures.blanks == pytest.approx(100 / 10)
    # One in the 20 lines of both modules.
    assert figures.tuple_assignments == pytest.approx(1000 / 20)
    # `found` and `left` of LIMIT, NAME, found, left, right, value and total.
    assert figures.participles == pytest.approx(100 * 2 / 7)


@pytest.mark.parametrize("name", ["found", "kept", "_done", "refused", "written"])
def test_a_bare_participle_is_counted(name: str) -> None:
    assert is_participle(name)


@pytest.mark.parametrize("name", ["seed", "kept_round", "need", "scores", "red", "embed"])
def test_a_name_that_says_what_it_holds_is_not(name: str) -> None:
    assert not is_participle(name)


def test_the_command_prints_a_line_for_each_figure(package: Path) -> None:
    command = [sys.executable, "-m", "simulations.bench.house", "--root", str(package)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["largest", "folder", "common/room", "2"] in lines
    assert ["median", "files", "2.0"] in lines
    assert len(lines) == 7


def test_the_command_prints_the_figures_for_a_program(package: Path) -> None:
    command = [sys.executable, "-m", "simulations.bench.house", "--root", str(package), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(answer.stdout)["longest_file"] == ["common/room/module.py", 19]
