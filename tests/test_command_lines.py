"""What holds for every command of the three command lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.markup import render
from typer.main import get_command
from typer.testing import CliRunner

from client.cli import app as site
from common.errors import ExitCode
from server.cli import app as server
from simulations.cli import app as simulation

LINES = {"fedforget-server": server, "fedforget-site": site, "fedforget-sim": simulation}
ROOT = Path(__file__).parents[1]


def commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


EVERY = [path for line, app in LINES.items() for path in commands(get_command(app), (line,))]


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_says_what_a_command_does_and_shows_an_example(path: tuple[str, ...]) -> None:
    line, *rest = path
    result = CliRunner().invoke(LINES[line], [*rest, "--help"])
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert re.search(rf"Usage: \S+ {' '.join(rest)} .*\. .*Example: {' '.join(path)}( |$)", said)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_explains_every_argument(path: tuple[str, ...]) -> None:
    line, *rest = path
    command: Any = get_command(LINES[line])
    for name in rest:
        command = command.commands[name]
    for argument in (p for p in command.params if p.param_type_name == "argument"):
        assert argument.help, argument.name


@pytest.mark.parametrize("line", LINES)
def test_nothing_in_a_help_text_is_swallowed_as_markup(line: str) -> None:
    def texts(command: Any) -> Iterator[str]:
        yield from (command.help or "", command.epilog or "", *(getattr(p, "help", None) or "" for p in command.params))
        for sub_command in getattr(command, "commands", {}).values():
            yield from texts(sub_command)

    written = set(texts(get_command(LINES[line])))
    assert len(written) > 20
    assert [text for text in written if render(text).plain != text] == []


@pytest.mark.parametrize("line", LINES)
def test_the_root_help_lists_the_exit_codes(line: str) -> None:
    said = " ".join(CliRunner().invoke(LINES[line], ["--help"]).stdout.split())
    assert all(f"{code.value} {code.meaning}" in said for code in ExitCode)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_reference_has_a_line_for_every_command(path: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{' '.join(path)}[ `]", page, flags=re.M)


@pytest.mark.parametrize("package", ["server", "client"])
def test_help_imports_neither_torch_nor_a_database(package: str) -> None:
    code = (
        f"import sys; from {package}.cli import app; app(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'flwr', 'sqlalchemy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("line", LINES)
def test_the_installed_command_runs(line: str) -> None:
    command = Path(sys.executable).with_name(line)
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "Exit codes" in done.stdout
