"""A folder that is made is whole, or is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import OutputError
from common.files import write_text
from common.platform.new_folder import new_folder


def test_a_folder_appears_at_the_end_and_only_its_owner_can_enter(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with new_folder(path) as part:
        (part / "file").write_text("x")
        assert not path.exists()

    assert (path / "file").read_text() == "x"
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "b") as part:
            (part / "file").write_text("x")
            (part / "file" / "below").write_text("x")

    with pytest.raises(OutputError, match="Not a directory"):
        fill()
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_one_with_content_is_not(tmp_path: Path) -> None:
    (path := tmp_path / "b").mkdir()
    with new_folder(path) as part:
        (part / "file").write_text("x")
    with pytest.raises(OutputError, match="not empty"), new_folder(path):
        pytest.fail("the block must not begin")
    assert (path / "file").read_text() == "x"


def test_content_that_comes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "b"
    with pytest.raises(OutputError, match="not empty"), new_folder(path):
        write_text(path / "theirs", "x")
    assert [p.name for p in tmp_path.rglob("*")] == ["b", "theirs"]
