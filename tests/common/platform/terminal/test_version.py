"""`--version` of the three commands."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app as site
from server.cli import app as server
from simulations.cli import app as simulation

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("app", [server, site, simulation], ids=["server", "site", "sim"])
def test_the_version_is_that_of_the_installed_package(app: object) -> None:
    answer = CliRunner().invoke(app, ["--version"])  # type: ignore[arg-type]
    assert (answer.exit_code, answer.stdout) == (0, f"fedforget {version('fedforget')}\n")


@pytest.mark.parametrize("package", ["server", "client", "simulations"])
def test_the_version_needs_neither_torch_nor_flower(package: str) -> None:
    code = (
        f"import sys; from {package}.cli import app; app(['--version'], standalone_mode=False); "
        "print(sorted({'torch', 'flwr', 'sqlalchemy', 'matplotlib'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.splitlines()[-1] == "[]"
