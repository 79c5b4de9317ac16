"""The chart of the rooms in `docs/architecture.md`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ConfigError
from simulations.bench.rooms import arrows, chart, replaced

ROOT = Path(__file__).parents[3]


def test_the_architecture_page_shows_the_rooms_that_the_code_has() -> None:
    command = [sys.executable, "-m", "simulations.bench.rooms", "--check", "docs/architecture.md"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr


def test_a_page_with_another_chart_is_reported(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(replaced((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "an old chart"))
    command = [sys.executable, "-m", "simulations.bench.rooms", "--check", str(page)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 1
    assert "out of date" in answer.stderr


def test_an_arrow_that_others_imply_is_left_out(tmp_path: Path) -> None:
    for room, imports in {"top": ("middle", "low"), "middle": ("low",), "low": ()}.items():
        (tmp_path / "client" / room).mkdir(parents=True)
        lines = [f"from client.{name}.module import value\n" for name in imports]
        (tmp_path / "client" / room / "module.py").write_text("".join(lines))

    lines = [line.strip() for line in chart(arrows(tmp_path)).splitlines()]
    assert [line for line in lines if line.startswith("client_") and "-->" in line] == [
        "client_middle --> client_low",
        "client_top --> client_middle",
    ]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no marks"):
        replaced("# A page\n", "chart")
