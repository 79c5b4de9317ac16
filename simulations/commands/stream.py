"""`stream`: revocations over months."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, clear_errors
from simulations.commands.options import Out, Set, progress, sayer


def stream(
    preset: Annotated[str, typer.Option(help="Name of a stream preset, or path of a TOML file.")] = "quick",
    tables_only: Annotated[
        bool, typer.Option("--tables", help="Only write the tables and the report again from stream.json in --out.")
    ] = False,
    assignments: Set = None,
    out: Out = Path("runs/stream"),
    as_json: AsJson = False,
) -> None:
    """Simulate months of revocations, with a campaign for each batch.

    Run the same command again to continue after an interruption.
    """
    from simulations.stream.command import run_streams

    with (
        clear_errors("stopped; run the same command again to continue after the last campaign"),
        progress(quiet=as_json) as on_progress,
    ):
        answer = run_streams(
            preset,
            assignments or [],
            out,
            tables_only=tables_only,
            say=sayer(quiet=as_json),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
