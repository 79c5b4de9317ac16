"""Shared behaviour of all command lines: help, errors in one line, exit codes, JSON for programs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from common.errors import ExitCode, FedForgetError, InputError
from common.installation import DISTRIBUTION, check, own_version
from common.printable import printable

EXIT_CODES = f"Exit codes: {'; '.join(f'{code.value} {code.meaning}' for code in ExitCode)}."

Folder = Annotated[Path, typer.Option("--dir", help="Folder created by `init`.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON only.")]


def _print_version(is_asked: bool) -> None:
    """Print the version of the installed FedForget and end, once the installation is known to be whole."""
    if not is_asked:
        return

    with clear_errors():
        check()

    sys.stdout.write(f"{DISTRIBUTION} {own_version()}\n")
    raise typer.Exit


# Eager: no command needs to follow it.
_Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
]


def root_app(purpose: str) -> typer.Typer:
    """A command line; it refuses to run if another package's `common` or `server` is installed over ours."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help=purpose,
        epilog=EXIT_CODES,
    )

    @app.callback()
    def start(version: _Version = False) -> None:  # noqa: ARG001 - its own callback answers it
        with clear_errors():
            check()

    return app


def sub_app(purpose: str) -> typer.Typer:
    """A group of commands within a command line."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=purpose)


@contextmanager
def clear_errors(stopped: str = "stopped", *, as_json: bool = False) -> Iterator[None]:
    """Print an expected error as one red line, exit with its code; Ctrl-C and SIGTERM print `stopped`, exit code 130.

    Further invalid rows of a table follow the line. With `as_json` invalid input is also printed as JSON.
    """
    # SIGTERM as Ctrl-C: what is being written is finished or removed on either.
    before = signal.signal(signal.SIGTERM, _interrupt)

    try:
        yield
    except FedForgetError as error:
        console = Terminal(stderr=True)
        console.print("error:", style="red", end=" ")
        console.print(printable(str(error)), markup=False, highlight=False, soft_wrap=True)
        for line in _further(error):
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        if as_json and isinstance(error, InputError):
            show(_as_data(error), "", as_json=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        Terminal(stderr=True).print(stopped, soft_wrap=True)
        raise typer.Exit(ExitCode.STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminal(Console):
    """A console that shows control characters instead of obeying them, anywhere in its output.

    Line breaks stay: cells and lines with untrusted text escape them with `printable`.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Segments with escaped text; the console's own control codes stay."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def _further(error: FedForgetError) -> Iterator[str]:
    """Lines about further invalid rows of a table."""
    if isinstance(error, InputError) and error.others:
        yield from (f"  {other}" for other in error.others)
        if error.unlisted:
            yield f"  and {error.unlisted} more rows"


def _as_data(error: InputError) -> dict[str, Any]:
    problems = [{"where": e.where, "problem": e.problem, "remedy": e.remedy} for e in (error, *error.others)]
    return {"error": str(error), "problems": problems, "more": error.unlisted}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def show(value: Any, human: RenderableType, *, as_json: bool) -> None:
    """Print `value` as JSON for a program, or `human` for a person."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")
    else:
        Terminal().print(human, markup=False, highlight=False, soft_wrap=isinstance(human, str))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 receipt`, `2 receipts`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def rows_table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, empty: str = "nothing here"
) -> RenderableType:
    """Rows under a heading; a missing value is a dash, times are in UTC to the minute.

    A value without spaces, such as a receipt or a digest, is never broken, so that it can be copied. If the terminal
    is too narrow for all columns, each row becomes several lines.

    Args:
        columns: headings.
        rows: cells of each row.
        empty: text to show for a table without rows.
    """
    names = [*columns]
    cells = [[_cell(value) for value in row] for row in rows]
    return WholeWords(names, cells) if cells else empty


@dataclass(frozen=True)
class WholeWords:
    """A table that breaks lines only between words."""

    names: list[str]
    cells: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as a table if the longest words fit, otherwise row by row."""
        columns = [[name, *(row[index] for row in self.cells)] for index, name in enumerate(self.names)]
        least = [max(_longest_word(cell) for cell in column) for column in columns]

        # Three signs for each border and its spaces, and one border more.
        if sum(least) + 3 * len(least) + 1 <= options.max_width:
            table = Table()
            for name, width in zip(self.names, least, strict=True):
                table.add_column(Text(name), overflow="fold", min_width=width)
            for row in self.cells:
                table.add_row(*map(Text, row))
            yield table

            return

        for number, row in enumerate(self.cells):
            if number:
                yield Text("")
            yield from _lines(dict(zip(self.names, row, strict=True)), options.max_width)


def _longest_word(text: str) -> int:
    return max((cell_len(word) for word in text.split()), default=1)


def _lines(fields: Mapping[str, str], width: int) -> Iterator[RenderableType]:
    """One name and value per line; a value that does not fit beside its name goes on the next line, unbroken."""
    room = max(map(cell_len, fields), default=0) + 2

    for name, value in fields.items():
        if _longest_word(value) > width - room:
            yield Text(f"{name}\n  {value}", no_wrap=True, overflow="ignore")
        else:
            table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
            table.columns[0].min_width = room - 2
            table.columns[0].no_wrap = True
            table.columns[1].overflow = "fold"
            table.add_row(Text(name), Text(value))
            yield table


def fields_table(fields: Mapping[str, object]) -> RenderableType:
    """Names and values of one object; values without spaces are never broken."""
    return Fields({name: _cell(value) for name, value in fields.items()})


@dataclass(frozen=True)
class Fields:
    """Names and values, one line each."""

    cells: dict[str, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render; lines break only between words."""
        yield from _lines(self.cells, options.max_width)


def _cell(value: object) -> str:
    """One line per item: untrusted text cannot start a new row."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, list | tuple):
        return "\n".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
