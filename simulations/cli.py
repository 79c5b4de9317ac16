"""`fedforget-sim`: simulate a federation on one machine, draw the report, run a study over seeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from common.files import write_bytes, write_text
from common.platform.terminal.console import AsJson, Terminal, clear_errors, root_app
from common.platform.terminal.progress_lines import ProgressLines

app = root_app("Simulate hospitals that train together, and a patient who is forgotten.")
_err = Terminal(stderr=True)
_clear_errors = partial(clear_errors, "stopped; the same command with --resume goes on from the last round")

Out = Annotated[Path, typer.Option("--out", help="Folder of the run.", show_default=True)]
Preset = Annotated[str | None, typer.Option("--preset", help="Name or path of a preset.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, as train.rounds=3; may be repeated.")]


@app.command(epilog="Example: fedforget-sim run --preset demo --forget 10 --seed 3 --out runs/mine")
def run(
    preset: Preset = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV of studies; made-up hospitals without it.")] = None,
    sites: Annotated[
        str | None, typer.Option(help="Deal patients to N sites, or 'natural' for the manifest's.")
    ] = None,
    forget: Annotated[str | None, typer.Option(help="Patients who revoke: number, fraction or file.")] = None,
    forget_site: Annotated[str | None, typer.Option(help="Where they revoke; several with commas.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Unlearning method, with the settings of its preset; see docs/reference/methods.md."),
    ] = None,
    aggregation: Annotated[str | None, typer.Option(help="replace, relay, scaled or naive.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Most rounds of training.")] = None,
    retention_rounds: Annotated[int | None, typer.Option(help="Retention rounds after unlearning.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    engine: Annotated[str | None, typer.Option(help="flower (Ray) or inprocess.")] = None,
    retrain: Annotated[bool, typer.Option("--retrain/--no-retrain", help="Also train the gold model.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last round in --out.")] = False,
    assignments: Set = None,
    out: Out = Path("runs/latest"),
    as_json: AsJson = False,
) -> None:
    """Train, revoke, forget, audit; writes result.json, report.html and the models to --out."""
    flags = {
        "campaign.aggregation": aggregation,
        "train.rounds": rounds,
        "campaign.retention_rounds": retention_rounds,
        "seed": seed,
        "device": json.dumps(device) if device else None,
    }
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
    named = [f"{key}={value}" for key, value in flags.items() if value is not None]
    with _clear_errors():
        _run(preset, method, [*named, *(assignments or [])], values, out, resume=resume, as_json=as_json)


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
    from simulations.reporting.report import print_table  # noqa: PLC0415
    from simulations.run.main_job import run_main_job  # noqa: PLC0415 - torch, for commands that need it
    from simulations.run.settings import load_settings  # noqa: PLC0415

    config = load_settings(preset, assignments, values, method)
    with _progress(quiet=as_json) as on_progress:
        result = run_main_job(config, out, resume=resume, on_progress=on_progress)
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
        return

    console = Terminal()
    print_table(result, console)
    console.print(f"report: {out / 'report.html'}")


@app.command(epilog="Example: fedforget-sim prepare --preset demo --out runs/flwr")
def prepare(preset: Preset = None, assignments: Set = None, out: Out = Path("runs/flwr")) -> None:
    """Write the folders of sites and server that `flwr run .` works on, and print the commands."""
    from simulations.run.main_job import prepare_for_flwr  # noqa: PLC0415 - torch, for commands that need it
    from simulations.run.settings import load_settings  # noqa: PLC0415

    with _clear_errors():
        config = load_settings(preset, assignments or [], {})
        with _progress(quiet=False) as on_progress:
            prepared = prepare_for_flwr(config, out, lambda done, total: on_progress("images", done, total))
        root = out.resolve()
        Terminal().print(
            f"export FEDFORGET_SITES={root / 'sites'} FEDFORGET_SERVER={root}\n"
            f"flwr run . local --stream --federation-config 'num-supernodes={len(prepared.sites)} "
            "client-resources-num-cpus=1'\n"
            f"fedforget-sim revoke {out}   # then the same flwr run again: it forgets",
            highlight=False,
            soft_wrap=True,
        )


@app.command(epilog="Example: fedforget-sim revoke runs/flwr")
def revoke(folder: Annotated[Path, typer.Argument(help="Folder that `prepare` wrote.")]) -> None:
    """Record the revocations that the settings ask for at the prepared sites."""
    from simulations.run.main_job import revoke_prepared  # noqa: PLC0415 - torch, for commands that need it

    with _clear_errors():
        for site, count in revoke_prepared(folder).items():
            Terminal().print(f"{site}: {count} revocations recorded")


@app.command(epilog="Example: fedforget-sim report runs/demo")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    picture: Annotated[Path | None, typer.Option(help="Also draw the key picture to this PNG.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write TensorBoard events to this folder.")] = None,
) -> None:
    """Draw the report again from result.json."""
    from simulations.reporting.report import draw_summary, load_result, write_report  # noqa: PLC0415
    from simulations.reporting.tensorboard import write_tensorboard  # noqa: PLC0415

    with _clear_errors():
        result = load_result(folder)
        Terminal().print(f"report: {write_report(result, folder)}")
        if picture is not None:
            write_bytes(picture, draw_summary(result))
        if tensorboard is not None:
            write_tensorboard(result, tensorboard)


@app.command(
    epilog="Example: fedforget-sim study --preset covid --seeds 10 --out runs/covid --write docs/results/covid.md"
)
def study(
    preset: Annotated[str, typer.Option(help="Name or path of a preset.")],
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N-1.", min=2)] = 10,
    jobs: Annotated[int, typer.Option(help="Seeds at a time.", min=1)] = 2,
    rotate: Annotated[bool, typer.Option("--rotate/--no-rotate", help="Another forgetting site for each seed.")] = True,
    assignments: Set = None,
    out: Out = Path("runs/study"),
    write: Annotated[Path | None, typer.Option(help="Markdown file for the tables.")] = None,
) -> None:
    """Run the main job over seeds, go on where it stopped, and write paired differences with intervals."""
    from simulations.run.settings import load_settings  # noqa: PLC0415 - torch, for commands that need it
    from simulations.run.study import run_study, study_markdown  # noqa: PLC0415

    with _clear_errors():
        config = load_settings(preset, assignments or [], {})
        with _progress(quiet=False) as on_progress:
            results = run_study(config, seeds, jobs, out, rotate=rotate, on_progress=on_progress)
        command = f"fedforget-sim study --preset {preset} --seeds {seeds}" + "".join(
            f" --set {text}" for text in assignments or []
        )
        text = study_markdown(results, title=preset, command=command)
        if write is not None:
            write_text(write, text)
        Terminal().print(text, markup=False, highlight=False)


@app.command(epilog="Example: fedforget-sim baselines --preset covid --seeds 10 --text-folder /models/minilm")
def baselines(
    preset: Preset = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV of studies; made-up hospitals without it.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N-1.", min=1)] = 3,
    text_folder: Annotated[Path | None, typer.Option(help="Local transformers folder of a text encoder.")] = None,
    image_folder: Annotated[Path | None, typer.Option(help="Local transformers folder of an image encoder.")] = None,
    assignments: Set = None,
    out: Out = Path("runs/baselines"),
    write: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train simple classifiers on the same patients: what a model must beat before it is worth deploying."""
    from simulations.run.baselines.command import run_command  # noqa: PLC0415 - torch, for commands that need it
    from simulations.run.baselines.output import markdown  # noqa: PLC0415
    from simulations.run.baselines.run import Encoders  # noqa: PLC0415
    from simulations.run.settings import load_settings  # noqa: PLC0415

    with _clear_errors():
        values: dict[str, Any] = {} if manifest is None else {"manifest": str(manifest)}
        config = load_settings(preset, assignments or [], values)
        with _progress(quiet=as_json) as on_progress:
            table, runs = run_command(config, seeds, Encoders(text_folder, image_folder), out, on_progress)
        given = [("--text-folder", text_folder), ("--image-folder", image_folder)]
        named = "".join(f" {option} {folder}" for option, folder in given if folder is not None)
        named += "".join(f" --set {text}" for text in assignments or [])
        command = f"fedforget-sim baselines --preset {preset} --seeds {seeds}{named}"
        page = markdown(table, title=preset or "made-up hospitals", command=command, patients=runs[0][0].patients)
        if write is not None:
            write_text(write, page)
        if as_json:
            sys.stdout.write(json.dumps([[one.model_dump() for one in run] for run in runs], indent=2) + "\n")
        else:
            Terminal().print(page, markup=False, highlight=False)


@app.command(
    epilog="Example: fedforget-sim shadows --preset demo --methods scrub,forget_mi_calibrated --out runs/shadows"
)
def shadows(
    preset: Preset = None,
    count: Annotated[int, typer.Option(help="Shadow models in all; an even number.", min=2)] = 32,
    methods: Annotated[
        str, typer.Option(help="Methods to unlearn with on each, with commas.")
    ] = "forget_mi_calibrated",
    share: Annotated[
        str, typer.Option(help="Train only the K-th of N shares, as 1/2: for several processes or machines.")
    ] = "1/1",
    assignments: Set = None,
    out: Out = Path("runs/shadows"),
    as_json: AsJson = False,
) -> None:
    """Train shadow models, go on where it stopped, and attack unlearning with them (LiRA, U-LiRA)."""
    from simulations.run.settings import load_settings  # noqa: PLC0415 - torch, for commands that need it
    from simulations.shadows.shadow_models import Order, parse_share, train_shadows  # noqa: PLC0415
    from simulations.shadows.shadow_pool import attack_pool, load_pool, print_attacks  # noqa: PLC0415

    with clear_errors("stopped; the same command goes on from the last round"):
        config = load_settings(preset, assignments or [], {})
        order = Order(count, tuple(m.strip() for m in methods.split(",") if m.strip()), parse_share(share))
        with _progress(quiet=as_json) as on_progress:
            train_shadows(config, order, out, on_progress)
        pool = load_pool(out)
        found = attack_pool(pool, config.experiment.seed)

        if as_json:
            rows = [one.model_dump() for one in found]
            sys.stdout.write(json.dumps({"shadows": len(pool.members), "attacks": rows}, indent=2) + "\n")
            return

        print_attacks(found, len(pool.members), Terminal())


@app.command(epilog="Example: fedforget-sim compare --preset quick --jobs 2 --out runs/quick")
def compare(
    preset: Annotated[str, typer.Option(help="Name or path of a preset of comparisons.")] = "quick",
    jobs: Annotated[int, typer.Option(help="Processes at a time.", min=1)] = 2,
    share: Annotated[
        str, typer.Option(help="Run only the K-th of N shares of the seeds, as 1/2: for several machines.")
    ] = "1/1",
    budget: Annotated[
        float | None, typer.Option("--budget-minutes", help="Begin nothing after so many minutes.", min=0.0)
    ] = None,
    ray: Annotated[
        str, typer.Option(help="Run on a Ray cluster instead of processes: its address, 'auto', or 'local'.")
    ] = "",
    project_only: Annotated[bool, typer.Option("--project", help="Only say how long it takes at most.")] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables", help="Only draw tables and report again from the results in --out.")
    ] = False,
    assignments: Set = None,
    out: Out = Path("runs/compare"),
    as_json: AsJson = False,
) -> None:
    """Put unlearning methods side by side over sizes and seeds, go on where it stopped, and write the tables."""
    from simulations.comparison.command import Request, run_compare  # noqa: PLC0415 - torch, for commands that need it

    command = f"fedforget-sim compare --preset {preset}" + "".join(f" --set {text}" for text in assignments or [])
    request = Request(preset, assignments or [], jobs, share, budget, command, ray)

    with (
        clear_errors("stopped; the same command goes on from the last result"),
        _progress(quiet=as_json) as on_progress,
    ):
        said = run_compare(
            request,
            out,
            only="projection" if project_only else "tables" if tables_only else None,
            say=lambda text: None if as_json else _err.print(text, highlight=False, soft_wrap=True),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")


@app.command(epilog="Example: fedforget-sim stream --preset quick --out runs/stream")
def stream(
    preset: Annotated[str, typer.Option(help="Name or path of a preset of streams.")] = "quick",
    tables_only: Annotated[
        bool, typer.Option("--tables", help="Only draw tables and report again from stream.json in --out.")
    ] = False,
    assignments: Set = None,
    out: Out = Path("runs/stream"),
    as_json: AsJson = False,
) -> None:
    """Feed revocations over months into a federation, a campaign for each batch; go on after the last campaign."""
    from simulations.stream.command import run_streams  # noqa: PLC0415 - torch, for commands that need it

    with (
        clear_errors("stopped; the same command goes on after the last campaign"),
        _progress(quiet=as_json) as on_progress,
    ):
        said = run_streams(
            preset,
            assignments or [],
            out,
            tables_only=tables_only,
            say=lambda text: None if as_json else _err.print(text, highlight=False, soft_wrap=True),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")


@app.command(epilog="Example: fedforget-sim scale --preset standard --out runs/scale")
def scale(
    preset: Annotated[str, typer.Option(help="Name or path of a preset of sizes.")] = "standard",
    assignments: Set = None,
    out: Out = Path("runs/scale"),
    as_json: AsJson = False,
) -> None:
    """Measure federations of 4 to 256 hospitals, go on at the size where it stopped, and show what bends."""
    from simulations.scale.command import Request, run_scale  # noqa: PLC0415 - torch, for commands that need it

    command = f"fedforget-sim scale --preset {preset}" + "".join(f" --set {text}" for text in assignments or [])

    with (
        clear_errors("stopped; the same command goes on with the size that was under way"),
        _progress(quiet=as_json) as on_progress,
    ):
        report = run_scale(
            Request(preset, assignments or [], command),
            out,
            say=lambda text: None if as_json else _err.print(text, highlight=False, soft_wrap=True),
            on_progress=on_progress,
        )

    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")


@app.command(epilog="Example: fedforget-sim make-hospitals hospitals --sites 4 --patients 60")
def make_hospitals(
    folder: Annotated[Path, typer.Argument(help="Where to write DICOM files and manifest.csv.")],
    sites: Annotated[int, typer.Option(min=1)] = 4,
    patients: Annotated[int, typer.Option(min=1, help="Patients a site.")] = 60,
    seed: int = 0,
) -> None:
    """Write made-up hospitals to a folder."""
    from simulations.synthetic.federation import write_federation  # noqa: PLC0415

    with _clear_errors():
        manifest = write_federation(
            folder, sites=sites, patients=patients, seed=seed, on_patient=ProgressLines("made-up patients")
        )
        Terminal().print(f"manifest: {manifest}")


def _number_or_file(text: str) -> int | float | str:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Any]:
    """A bar per stage with the time left; on standard error, so that standard output stays the result's."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}

    with Progress(*columns, console=_err, disable=quiet or not _err.is_terminal) as progress:

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield on_progress
