"""Documented and real exit codes: every command has its row, every row its command, and none ends in another way."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from client.cli import app as site
from common import errors
from common.errors import ExitCode, FedForgetError
from server.cli import app as server
from simulations.cli import app as simulation

if TYPE_CHECKING:
    pass

LINES = {"fedforget-server": server, "fedforget-site": site, "fedforget-sim": simulation}
PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
EVERYWHERE = {ExitCode.DONE, ExitCode.STOPPED}
"""Mean the same for every command, as the page says."""
ROW = re.compile(r"^\| `(fedforget-\w+(?: [a-z][a-z-]*)+)[^|]*\|[^|]*\| ([^|]*) \|$", re.MULTILINE)


def documented() -> dict[str, set[int]]:
    """The codes in the row of each command; `as above` and `` as `other` `` mean the codes of that row as well."""
    rows: dict[str, set[int]] = {}
    before: set[int] = set()

    for command, text in ROW.findall(PAGE):
        codes = {int(code) for code in re.findall(r"(?:^|; )(\d+):", text)}
        if "as above" in text:
            codes |= before
        for other in re.findall(r"as `([^`]+)`", text):
            codes |= rows[f"{command.split()[0]} {other}"]
        rows[command] = before = codes

    return rows


ROWS = documented()


def commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


EVERY = {name: command for line, app in LINES.items() for name, command in commands(get_command(app), (line,))}


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    assert ROWS.keys() == EVERY.keys()


def test_the_page_and_the_help_have_the_codes_of_the_program_and_no_others() -> None:
    first_table = PAGE.split("| exit code |")[1].split("\n\n")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", first_table, re.MULTILINE)] == list(ExitCode)
    assert {code for codes in ROWS.values() for code in codes} <= {*ExitCode}


def test_every_error_has_a_code_of_the_page() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FedForgetError)]
    assert {kind.exit_code for kind in kinds} == {*ExitCode} - EVERYWHERE


def arguments(command: click.Command, tmp_path: Path) -> list[str]:
    """What a command cannot do without, made up."""
    words = []

    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required:
            words.append("7" if parameter.type is click.INT else str(tmp_path / "a-file" / "nothing"))
        elif isinstance(parameter, click.Option) and parameter.required:
            words += [parameter.opts[0], "1999-01-01" if parameter.name == "until" else "made-up"]
        elif parameter.name == "preset":
            words += ["--preset", "no-such-preset"]
        elif parameter.name == "out":
            words += ["--out", str(tmp_path / "a-file" / "out")]

    return words


def end(name: str, tmp_path: Path, folder: Path | None) -> int:
    line, *path = name.split()
    words = [*path, *arguments(EVERY[name], tmp_path)]
    if any(parameter.opts == ["--dir"] for parameter in EVERY[name].params):
        words += ["--dir", str(folder or tmp_path / "nowhere")]
    result = CliRunner().invoke(LINES[line], words, input="")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code


def check(name: str, code: int) -> None:
    assert code in ROWS[name] | EVERYWHERE, f"{name} ends with {code}, which its row does not have"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, so that a name which a command takes as a new folder is made here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    return tmp_path


@pytest.mark.parametrize("name", EVERY)
def test_without_a_folder_every_command_ends_as_documented(name: str, place: Path) -> None:
    if name == "fedforget-sim scale":
        pytest.skip("its presets need no folder, and take minutes")
    check(name, end(name, place, None))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A coordinator's folder and that of a hospital that has joined, each without anything in it."""
    from datetime import UTC, datetime

    from client.membership.enrolment import join
    from client.membership.setup import SiteRequest, create_site
    from client.settings import SiteFolder
    from common.platform.sql import open_database, transaction
    from server.membership.enrolment import approve, open_authority, read_request
    from server.membership.setup import create_server
    from server.settings import ServerFolder

    root = tmp_path_factory.mktemp("folders")
    now = datetime.now(UTC)
    ca = create_server(root / "server", ["localhost"], now, ("no", "yes"))
    request = create_site(root / "site", SiteRequest("north", "localhost", ca))
    folder = ServerFolder(root / "server")
    engine = open_database(folder.database_url(folder.settings()))
    with transaction(engine) as session:
        approval = approve(session, open_authority(folder), read_request(session, request), now)
    engine.dispose()
    join(SiteFolder(root / "site"), approval.bundle, now)

    return {"fedforget-server": root / "server", "fedforget-site": root / "site"}


IN_A_FOLDER = [
    name for name in EVERY if name.split()[0] != "fedforget-sim" and name.split()[1:] not in (["up"], ["init"])
]


@pytest.mark.parametrize("name", IN_A_FOLDER)
@pytest.mark.parametrize("state", ["empty", "damaged database"])
def test_in_a_folder_in_whatever_state_every_command_ends_as_documented(
    name: str, state: str, place: Path, folders: dict[str, Path]
) -> None:
    line = name.split(maxsplit=1)[0]
    folder = place / "folder"
    shutil.copytree(folders[line], folder)
    database = folder / ("server.db" if line == "fedforget-server" else "site.db")
    for beside in folder.glob(f"{database.name}-*"):
        beside.unlink()
    if state == "damaged database":
        database.write_bytes(b"damaged" * 4096)
    check(name, end(name, place, folder))
