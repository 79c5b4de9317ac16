"""Options, progress bars and messages that several commands of `fedforget-sim` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from common.platform.terminal.console import Terminal, clear_errors

OnProgress = Callable[[str, int, int], None]
"""Takes a stage, how many of its steps are finished, and how many it has."""

Out = Annotated[Path, typer.Option("--out", help="Output folder.", show_default=True)]
Preset = Annotated[str | None, typer.Option("--preset", help="Name of a preset, or path of a TOML file.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Value of any setting, e.g. train.rounds=3; repeat for several.")
]
Manifest = Annotated[
    Path | None, typer.Option(help="CSV file of studies; without it, synthetic hospitals are generated.")
]
Tables = Annotated[Path | None, typer.Option(help="Markdown file for the tables.")]

errors = partial(clear_errors, "stopped; run the same command with --resume to continue after the last round")

_terminal = Terminal(stderr=True)


def command_line(command: str, preset: str | None, assignments: list[str] | None, **options: object) -> str:
    """The command as a report shows it, for readers who want to repeat it; options without a value are left out."""
    words = [f"fedforget-sim {command} --preset {preset}"]
    words += [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None]
    words += [f"--set {assignment}" for assignment in assignments or []]

    return " ".join(words)


def sayer(*, quiet: bool) -> Callable[[str], None]:
    """Prints lines on standard error, because standard output is reserved for the result."""

    def say(text: str) -> None:
        if not quiet:
            _terminal.print(text, highlight=False, soft_wrap=True)

    return say


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Show a bar with the remaining time for each stage, on standard error."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}

    with Progress(*columns, console=_terminal, disable=quiet or not _terminal.is_terminal) as display:

        def on_progress(stage: str, count: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = display.add_task(stage, total=total)
            display.update(bars[stage], completed=count, total=total)

        yield on_progress
