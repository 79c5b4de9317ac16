"""`run`, `prepare`, `revoke` and `report`: the main job, in one process tree or by `flwr run`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.files import write_bytes
from common.platform.terminal.console import AsJson, Terminal
from simulations.commands.options import Manifest, Out, Preset, Set, errors, progress


def run(
    preset: Preset = None,
    manifest: Manifest = None,
    sites: Annotated[
        str | None,
        typer.Option(help="Number of sites that share the patients, or 'natural' for the sites of the manifest."),
    ] = None,
    forget: Annotated[
        str | None, typer.Option(help="Patients who revoke: a number, a fraction, or a file of identifiers.")
    ] = None,
    forget_site: Annotated[str | None, typer.Option(help="Site where they revoke; separate several by commas.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Unlearning method, with the settings of its preset; see docs/reference/methods.md."),
    ] = None,
    aggregation: Annotated[
        str | None,
        typer.Option(help="How unlearned weights enter the federation's model: replace, relay, scaled or naive."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Maximum number of training rounds.")] = None,
    retention_rounds: Annotated[int | None, typer.Option(help="Number of retention rounds after unlearning.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness.")] = None,
    device: Annotated[str | None, typer.Option(help="Device: auto, cpu or cuda.")] = None,
    engine: Annotated[str | None, typer.Option(help="Simulation engine: flower (Ray) or inprocess.")] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain/--no-retrain", help="Also train the gold standard, without the forget patients.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after the last round in --out.")] = False,
    assignments: Set = None,
    out: Out = Path("runs/latest"),
    as_json: AsJson = False,
) -> None:
    """Train, revoke, unlearn and audit; write result.json, report.html and the models to --out."""
    flags = {
        "campaign.aggregation": aggregation,
        "train.rounds": rounds,
        "campaign.retention_rounds": retention_rounds,
        "seed": seed,
        # Quoted, so that a device such as `1` is not read as a number.
        "device": json.dumps(device) if device else None,
    }
    flag_settings = [f"{key}={value}" for key, value in flags.items() if value is not None]

    values: dict[str, Any] = {"retrain": retrain} if not retrain else {}
    if manifest is not None:
        values["manifest"] = str(manifest)
    if sites is not None:
        values["sites"] = int(sites) if sites.isdigit() else sites
    if forget is not None:
        values["forget"] = _number_or_file(forget)
    if forget_site is not None:
        values["forget_sites"] = tuple(forget_site.split(","))
    if engine is not None:
        values["engine"] = engine

    with errors():
        _run(preset, method, [*flag_settings, *(assignments or [])], values, out, resume=resume, as_json=as_json)


def _run(
    preset: str | None,
    method: str | None,
    assignments: list[str],
    values: dict[str, Any],
    out: Path,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    from simulations.reporting.report import print_table
    from simulations.run.main_job import run_main_job
    from simulations.run.settings import load_settings

    config = load_settings(preset, assignments, values, method)
    with progress(quiet=as_json) as on_progress:
        result = run_main_job(config, out, resume=resume, on_progress=on_progress)

    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
        return

    console = Terminal()
    print_table(result, console)
    console.print(f"report: {out / 'report.html'}")


def _number_or_file(text: str) -> int | float | str:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def prepare(preset: Preset = None, assignments: Set = None, out: Out = Path("runs/flwr")) -> None:
    """Write the site and server folders that `flwr run .` uses, and print the commands."""
    from simulations.run.main_job import prepare_for_flwr
    from simulations.run.settings import load_settings

    with errors():
        config = load_settings(preset, assignments or [], {})
        with progress(quiet=False) as on_progress:
            federation = prepare_for_flwr(config, out, lambda count, total: on_progress("images", count, total))

        root = out.resolve()
        Terminal().print(
            f"export FEDFORGET_SITES={root / 'sites'} FEDFORGET_SERVER={root}\n"
            f"flwr run . local --stream --federation-config 'num-supernodes={len(federation.sites)} "
            "client-resources-num-cpus=1'\n"
            f"fedforget-sim revoke {out}   # then the same flwr run again: it unlearns",
            highlight=False,
            soft_wrap=True,
        )


def revoke(folder: Annotated[Path, typer.Argument(help="Folder written by `prepare`.")]) -> None:
    """Record the revocations from the settings at the prepared sites."""
    from simulations.run.main_job import revoke_prepared

    with errors():
        for site, count in revoke_prepared(folder).items():
            Terminal().print(f"{site}: {count} revocations recorded")


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run.")],
    picture: Annotated[Path | None, typer.Option(help="PNG file for the summary figure.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard events.")] = None,
) -> None:
    """Write the report again from result.json."""
    from simulations.reporting.report import draw_summary, load_result, write_report
    from simulations.reporting.tensorboard import write_tensorboard

    with errors():
        result = load_result(folder)
        Terminal().print(f"report: {write_report(result, folder)}")

        if picture is not None:
            write_bytes(picture, draw_summary(result))
        if tensorboard is not None:
            write_tensorboard(result, tensorboard)
