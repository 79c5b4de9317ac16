"""What `fedforget-site up` starts, and when it refuses to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cohort.site_files import SITE_FILE
from client.runtime.up import children
from client.settings import SiteFolder
from common.platform.processes.up_lock import only_one


@pytest.fixture
def folder(tmp_path: Path, enrol: Callable[[Path, str], Path]) -> SiteFolder:
    """A hospital that has joined, without data."""
    (tmp_path / SITE_FILE).touch()
    return SiteFolder(enrol(tmp_path, "north"))


def refused(folder: SiteFolder) -> tuple[int, str]:
    run = CliRunner().invoke(app, ["up", "--dir", str(folder.root)])
    return run.exit_code, run.stderr


def test_children_get_whole_paths_and_an_environment_that_calls_nobody(
    folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.root.parent)
    monkeypatch.setenv("FLWR_HOME", "/home/of/somebody")
    started = children(SiteFolder(Path("north")), folder.settings())
    assert [child.name for child in started] == ["supernode", "launcher", "coordination"]

    for child in started:
        named = [word for word in child.argv if "north" in word]
        assert named
        assert all(word.startswith(str(folder.root)) for word in named)
        assert child.env["FLWR_HOME"] == str(folder.flower_home)
        assert child.env["FEDFORGET_SITE"] == str(folder.root)
        assert child.env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert child.env["FLWR_DISABLE_UPDATE_CHECK"] == "1"
        assert child.env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"

    assert sum(child.stop_grace for child in started) < 15


def test_a_site_that_has_not_joined_is_told_to_join(folder: SiteFolder) -> None:
    folder.coordinator_key.unlink()
    code, printed = refused(folder)
    assert code == 2
    assert "fedforget-site join BUNDLE" in printed


def test_a_key_that_others_can_read_stops_it(folder: SiteFolder) -> None:
    folder.node_key.chmod(0o644)
    code, printed = refused(folder)
    assert code == 2
    assert f"chmod 600 {folder.node_key}" in printed


def test_another_up_in_the_folder_stops_it(folder: SiteFolder) -> None:
    with only_one(folder.root):
        code, printed = refused(folder)
    assert code == 4
    assert "another `up` runs" in printed
