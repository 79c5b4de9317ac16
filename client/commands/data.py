"""`fedforget-site data`: register the hospital's own patients, and count them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from client.settings import CONFIG_FILE, SiteFolder
from common.platform.terminal.console import AsJson, Folder, Terminal, clear_errors, counted, rows_table, show, sub_app
from common.platform.terminal.progress_lines import ProgressLines

data = sub_app("The hospital's own patients; nothing of them leaves it.")


@data.command("import", epilog="Example: fedforget-site data import cohort.csv --dir north")
def import_(
    source: Annotated[Path, typer.Argument(help="A manifest (CSV), or a MIMIC-CXR folder.", exists=True)],
    folder: Folder = Path(),
    split: Annotated[Path | None, typer.Option(help="The folds of a MIMIC-CXR folder (CSV).")] = None,
    reports: Annotated[Path | None, typer.Option(help="Reports of MIMIC-CXR-JPG, where they lie elsewhere.")] = None,
    only_site: Annotated[str | None, typer.Option(help="Of a manifest of several sites, the rows of this one.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model, data settings and classes; the join bundle's without it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split at the first import; later ones go on with it.")] = 0,
    distinct_ids: Annotated[
        bool,
        typer.Option("--distinct-ids", help="Look-alikes under different ids are two persons: only count them."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check and register the data: counts, duplicates, patients under two ids, the five sets, decoded images.

    To be repeated when the data change: no patient moves to another set, and who has revoked stays out.
    """
    from client.cohort.data_import import SiteOptions, import_data, read_card, read_source, refuse_paths  # noqa: PLC0415 - torch

    with clear_errors(
        "stopped; nothing was registered, and decoded images are kept for the next import", as_json=as_json
    ):
        place = SiteFolder(folder)
        settings = place.settings() if (folder / CONFIG_FILE).exists() else None
        options = SiteOptions(
            name=settings.name if settings else folder.resolve().name,
            seed=seed,
            distinct_ids=distinct_ids,
        )
        found = read_card(card or place.experiment_file)
        if card is None:
            refuse_paths(found, str(place.experiment_file))
        manifest = read_source(source, found, split=split, reports=reports, only_site=only_site)
        console = Terminal(stderr=True)
        columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        lines = ProgressLines("images")

        with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
            task = progress.add_task("images", total=None)

            def decoded(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)
                if not console.is_terminal and not as_json:
                    lines(done, total)

            report = import_data(
                folder,
                manifest,
                found,
                options,
                decoded,
            )

        if settings is not None:
            from client.cohort.study_counts import signed_counts  # noqa: PLC0415 - the keys

            signed_counts(place)

        values = asdict(report)
        sets = values.pop("sets")
        show(
            asdict(report),
            rows_table(("found", "number"), [(key.replace("_", " "), n) for key, n in values.items()]),
            as_json=as_json,
        )
        if not as_json:
            show(sets, _sets_table(sets), as_json=False)


@data.command("show", epilog="Example: fedforget-site data show --dir north")
def show_(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Studies by set and label, and how many patients must not be used, whether their studies are still here or not."""
    from client.cohort.set_counts import count_sets  # noqa: PLC0415
    from client.cohort.site_files import read_site  # noqa: PLC0415
    from client.revocations.tombstones.overview import read_revocations  # noqa: PLC0415 - the database

    with clear_errors():
        file = read_site(folder)
        stopped = read_revocations(folder, file.subsets).tombstones
        sets = count_sets(file.cohort, file.subsets, stopped)
        here = len(stopped & frozenset(file.cohort.patients))
        patients = {"stopped": len(stopped), "stopped_and_here": here}
        show({**sets, "patients": patients}, _sets_table(sets), as_json=as_json)
        if not as_json:
            gone = f"{len(stopped) - here} of them have no studies here any more"
            show(None, f"{counted(len(stopped), 'patient')} must not be used; {gone}", as_json=False)


def register(app: typer.Typer) -> None:
    """Add the group to the command line of a site."""
    app.add_typer(data, name="data")


def _sets_table(sets: dict[str, dict[str, int]]) -> RenderableType:
    labels = list(next(iter(sets.values())))
    return rows_table(("studies of", *labels), [(name, *counts.values()) for name, counts in sets.items()])
