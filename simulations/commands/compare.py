"""`compare` and `shadows`: methods side by side, and attacks on what they forgot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, Terminal, clear_errors
from simulations.commands.options import Out, Preset, Set, command_line, progress, sayer


def compare(
    preset: Annotated[str, typer.Option(help="Name of a comparison preset, or path of a TOML file.")] = "quick",
    jobs: Annotated[int, typer.Option(help="Number of processes that run in parallel.", min=1)] = 2,
    share: Annotated[
        str, typer.Option(help="Share K/N of the seeds to run, e.g. 1/2, to spread them over several machines.")
    ] = "1/1",
    budget: Annotated[
        float | None,
        typer.Option("--budget-minutes", help="Minutes after which no new work starts.", min=0.0),
    ] = None,
    ray: Annotated[
        str, typer.Option(help="Ray cluster to use instead of processes: an address, 'auto' or 'local'.")
    ] = "",
    project_only: Annotated[bool, typer.Option("--project", help="Only print an upper bound of the duration.")] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables", help="Only write the tables and the report again from the results in --out.")
    ] = False,
    assignments: Set = None,
    out: Out = Path("runs/compare"),
    as_json: AsJson = False,
) -> None:
    """Compare unlearning methods over forget-set sizes and seeds, and write the tables.

    Run the same command again to continue after an interruption.
    """
    from simulations.comparison.command import Request, run_compare

    request = Request(preset, assignments or [], jobs, share, budget, command_line("compare", preset, assignments), ray)

    with (
        clear_errors("stopped; run the same command again to continue after the last result"),
        progress(quiet=as_json) as on_progress,
    ):
        answer = run_compare(
            request,
            out,
            only="projection" if project_only else "tables" if tables_only else None,
            say=sayer(quiet=as_json),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def shadows(
    preset: Preset = None,
    count: Annotated[int, typer.Option(help="Total number of shadow models; must be even.", min=2)] = 32,
    methods: Annotated[
        str, typer.Option(help="Unlearning methods to apply to each model, separated by commas.")
    ] = "forget_mi_calibrated",
    share: Annotated[
        str,
        typer.Option(help="Share K/N of the models to train, e.g. 1/2, to spread them over processes or machines."),
    ] = "1/1",
    assignments: Set = None,
    out: Out = Path("runs/shadows"),
    as_json: AsJson = False,
) -> None:
    """Train shadow models and use them to attack unlearning (LiRA, U-LiRA).

    Run the same command again to continue after an interruption.
    """
    from simulations.run.settings import load_settings
    from simulations.shadows.attack_table import print_attacks
    from simulations.shadows.order import Order, parse_share
    from simulations.shadows.shadow_models import train_shadows
    from simulations.shadows.shadow_pool import attack_pool, load_pool

    with clear_errors("stopped; run the same command again to continue after the last round"):
        config = load_settings(preset, assignments or [], {})
        order = Order(count, tuple(m.strip() for m in methods.split(",") if m.strip()), parse_share(share))
        with progress(quiet=as_json) as on_progress:
            train_shadows(config, order, out, on_progress)

        pool = load_pool(out)
        attacks = attack_pool(pool, config.experiment.seed)

        if as_json:
            rows = [attack.model_dump() for attack in attacks]
            sys.stdout.write(json.dumps({"shadows": len(pool.members), "attacks": rows}, indent=2) + "\n")
            return

        print_attacks(attacks, len(pool.members), Terminal())
