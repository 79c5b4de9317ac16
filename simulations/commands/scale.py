"""`scale` and `make-hospitals`: how large a federation may be, and synthetic data for one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, Terminal, clear_errors
from common.platform.terminal.progress_lines import ProgressLines
from simulations.commands.options import Out, Set, command_line, errors, progress, sayer


def scale(
    preset: Annotated[str, typer.Option(help="Name of a preset of sizes, or path of a TOML file.")] = "standard",
    assignments: Set = None,
    out: Out = Path("runs/scale"),
    as_json: AsJson = False,
) -> None:
    """Measure federations of 4 to 256 hospitals and report what grows faster than their number.

    Run the same command again to continue after an interruption.
    """
    from simulations.scale.command import Request, run_scale

    with (
        clear_errors("stopped; run the same command again to continue with the interrupted size"),
        progress(quiet=as_json) as on_progress,
    ):
        report = run_scale(
            Request(preset, assignments or [], command_line("scale", preset, assignments)),
            out,
            say=sayer(quiet=as_json),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")


def make_hospitals(
    folder: Annotated[Path, typer.Argument(help="Output folder for DICOM files and manifest.csv.")],
    sites: Annotated[int, typer.Option(min=1, help="Number of hospitals.")] = 4,
    patients: Annotated[int, typer.Option(min=1, help="Number of patients per hospital.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
) -> None:
    """Generate synthetic hospitals in a folder."""
    from simulations.synthetic.federation import write_federation

    with errors():
        manifest = write_federation(
            folder, sites=sites, patients=patients, seed=seed, on_patient=ProgressLines("made-up patients")
        )
        Terminal().print(f"manifest: {manifest}")
