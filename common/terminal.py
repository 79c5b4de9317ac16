"""What every command line of ours does alike: help, errors in one line, exit codes, JSON for programs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from common.errors import ExitCode, FedForgetError
from common.installation import check
from common.printable import printable

EXIT_CODES = f"Exit codes: {'; '.join(f'{code.value} {code.meaning}' for code in ExitCode)}."

Folder = Annotated[Path, typer.Option("--dir", help="The folder that `init` made.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]


def root_app(purpose: str) -> typer.Typer:
    """A command line; it refuses to run on somebody else's `common` or `server`."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help=purpose,
        epilog=EXIT_CODES,
    )

    @app.callback()
    def start() -> None:
        with clear_errors():
            check()

    return app


def sub_app(purpose: str) -> typer.Typer:
    """A group of commands within a command line."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=purpose)


@contextmanager
def clear_errors(stopped: str = "stopped") -> Iterator[None]:
    """One red line for what we foresaw, and its exit code; Ctrl-C and SIGTERM say `stopped` and end with 130."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except FedForgetError as error:
        console = Terminal(stderr=True)
        console.print("error:", style="red", end=" ")
        console.print(printable(str(error)), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        Terminal(stderr=True).print(stopped, soft_wrap=True)
        raise typer.Exit(ExitCode.STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminal(Console):
    """A console that shows control characters instead of obeying them, wherever in a drawing they stand.

    Line breaks stay: cells and lines that hold text of others escape them by `printable`.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Segments with their text escaped; those of the console's own control codes as they are."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


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


def rows_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Rows under a heading; a missing value is a dash, a moment is in UTC to the minute."""
    table = Table()
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def fields_table(fields: Mapping[str, object]) -> Table:
    """Names and values of one thing."""
    table = Table("", "", show_header=False, box=None)
    table.columns[1].overflow = "fold"
    for name, value in fields.items():
        table.add_row(name, _cell(value))
    return table


def _cell(value: object) -> str:
    """One line: what others wrote cannot begin a row of its own."""
    if value is None or value == "":
        return "-"
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}" if isinstance(value, datetime) else printable(str(value))
