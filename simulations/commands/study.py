"""`study` and `baselines`: the main job over seeds, and what a model must beat."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.files import write_text
from common.platform.terminal.console import AsJson, Terminal
from simulations.commands.options import Manifest, Out, Preset, Set, Tables, command_line, errors, progress


def study(
    preset: Annotated[str, typer.Option(help="Name of a preset, or path of a TOML file.")],
    seeds: Annotated[int, typer.Option(help="Number of seeds; they run from 0 to N-1.", min=2)] = 10,
    jobs: Annotated[int, typer.Option(help="Number of seeds that run in parallel.", min=1)] = 2,
    rotate: Annotated[
        bool, typer.Option("--rotate/--no-rotate", help="Let a different site forget with each seed.")
    ] = True,
    assignments: Set = None,
    out: Out = Path("runs/study"),
    write: Tables = None,
) -> None:
    """Repeat a run with several seeds, and write paired differences with confidence intervals.

    Run the same command again to continue after an interruption.
    """
    from simulations.run.settings import load_settings
    from simulations.run.study import run_study, study_markdown

    with errors():
        config = load_settings(preset, assignments or [], {})
        with progress(quiet=False) as on_progress:
            results = run_study(config, seeds, jobs, out, rotate=rotate, on_progress=on_progress)

        page = study_markdown(results, title=preset, command=command_line("study", preset, assignments, seeds=seeds))
        if write is not None:
            write_text(write, page)
        Terminal().print(page, markup=False, highlight=False)


def baselines(
    preset: Preset = None,
    manifest: Manifest = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds; they run from 0 to N-1.", min=1)] = 3,
    text_folder: Annotated[
        Path | None, typer.Option(help="Local folder of a text encoder in the transformers format.")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option(help="Local folder of an image encoder in the transformers format.")
    ] = None,
    assignments: Set = None,
    out: Out = Path("runs/baselines"),
    write: Tables = None,
    as_json: AsJson = False,
) -> None:
    """Train simple classifiers on the same patients: a model must beat them to be worth deploying."""
    from simulations.run.baselines.command import run_command
    from simulations.run.baselines.output import markdown
    from simulations.run.baselines.run import Encoders
    from simulations.run.settings import load_settings

    with errors():
        values: dict[str, Any] = {} if manifest is None else {"manifest": str(manifest)}
        config = load_settings(preset, assignments or [], values)
        with progress(quiet=as_json) as on_progress:
            table, runs = run_command(config, seeds, Encoders(text_folder, image_folder), out, on_progress)

        command = command_line(
            "baselines", preset, assignments, seeds=seeds, text_folder=text_folder, image_folder=image_folder
        )
        page = markdown(table, title=preset or "made-up hospitals", command=command, patients=runs[0][0].patients)
        if write is not None:
            write_text(write, page)

        if as_json:
            sys.stdout.write(json.dumps([[one.model_dump() for one in run] for run in runs], indent=2) + "\n")
        else:
            Terminal().print(page, markup=False, highlight=False)
