"""`qualify`: rehearse the procedure of a simulated federation, and judge it by the registered rule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.files import write_text
from common.platform.terminal.console import AsJson, Terminal
from simulations.commands.options import Manifest, Out, Preset, Set, errors, progress


def qualify(
    preset: Preset = "qualify",
    manifest: Manifest = None,
    rehearsals: Annotated[int | None, typer.Option(help="Number of rehearsals.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Patients of each rehearsal in turn, e.g. 1,5,9.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after the last step in --out.")] = False,
    assignments: Set = None,
    out: Out = Path("runs/qualify"),
    as_json: AsJson = False,
) -> None:
    """Train, rehearse on patients who have not revoked, and say whether the procedure qualifies."""
    flags = {"qualification.rehearsals": rehearsals, "seed": seed}
    settings = [f"{key}={value}" for key, value in flags.items() if value is not None]
    if sizes is not None:
        settings.append(f"qualification.sizes=[{sizes}]")

    with errors():
        from server.campaign.qualification.standing import criteria
        from simulations.run.main_job import claim
        from simulations.run.prepare import prepare, require_writable
        from simulations.run.qualify import QualifyRun
        from simulations.run.settings import load_settings

        values = {"manifest": str(manifest)} if manifest is not None else {}
        config = load_settings(preset, [*settings, *(assignments or [])], values)
        require_writable(out)
        claim(config, out, resume=resume)
        with progress(quiet=as_json) as on_progress:
            preparation = prepare(config, out, lambda count, total: on_progress("images", count, total))
            result = QualifyRun(config, preparation, on_progress).qualify()

        write_text(out / "qualification.json", result.model_dump_json(indent=2) + "\n")
        if as_json:
            sys.stdout.write(result.model_dump_json(indent=2) + "\n")
            return

        console = Terminal()
        verdict = result.qualification
        console.print("qualified" if verdict.qualified else "not qualified")
        console.print(
            f"{verdict.rehearsals} rehearsals, {verdict.patients} patients, {verdict.controls} never-seen patients"
        )
        for name, branch in verdict.branches.items():
            console.print(f"D, {name}: {branch.difference:+.3f} ({branch.low:+.3f} to {branch.high:+.3f})")
        for part in criteria(verdict) if verdict.branches else ():
            console.print(f"{part.name} {'holds' if part.holds else 'does not hold'}: {part.finding}")
