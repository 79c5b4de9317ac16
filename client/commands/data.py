"""`fedforget-site data`: import the hospital's studies and count them."""

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

data = sub_app("Import and count the hospital's own studies, which never leave it.")


@data.command("import", epilog="Example: fedforget-site data import cohort.csv --dir north")
def import_(
    source: Annotated[Path, typer.Argument(help="Manifest (CSV) or MIMIC-CXR folder.", exists=True)],
    folder: Folder = Path(),
    split: Annotated[Path | None, typer.Option(help="Folds of a MIMIC-CXR folder (CSV).")] = None,
    reports: Annotated[
        Path | None, typer.Option(help="Folder with the reports, for MIMIC-CXR-JPG, which has none.")
    ] = None,
    only_site: Annotated[
        str | None, typer.Option(help="Name of the site whose rows to import from a manifest of several sites.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            help="Model card: a file with the model, the data settings and the classes.",
            show_default="from the join bundle",
        ),
    ] = None,
    image_encoder: Annotated[
        Path | None,
        typer.Option(help="This hospital's folder of the image encoder.", show_default="as in the previous import"),
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            help="This hospital's folder of the text encoder and its tokenizer.",
            show_default="as in the previous import",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="This hospital's folder of a separate tokenizer.", show_default="as in the previous import"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split at the first import; later imports keep it.")] = 0,
    distinct_ids: Annotated[
        bool,
        typer.Option(
            "--distinct-ids", help="Treat patients with similar images as different people, and only count such pairs."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check and register the data: count studies, find duplicates, assign patients to the five sets, decode images.

    Run it again when the data change. No patient moves to another set, and patients who have revoked stay excluded.
    """
    from client.cohort.imports.data_import import SiteOptions, import_data  # noqa: PLC0415 - torch
    from client.cohort.imports.import_source import read_card, read_source  # noqa: PLC0415 - torch
    from client.cohort.imports.own_encoders import OwnFolders, with_own_folders  # noqa: PLC0415 - torch
    from client.cohort.site_files import SITE_FILE, read_site  # noqa: PLC0415 - torch

    with clear_errors("stopped; nothing was registered. Decoded images are kept for the next import", as_json=as_json):
        place = SiteFolder(folder)
        settings = place.settings() if (folder / CONFIG_FILE).exists() else None
        options = SiteOptions(
            name=settings.name if settings else folder.resolve().name,
            seed=seed,
            distinct_ids=distinct_ids,
        )
        model_card = read_card(card or place.experiment_file)
        if card is None:
            before = read_site(folder).card if (folder / SITE_FILE).exists() else None
            own = OwnFolders(image_encoder, text_encoder, tokenizer)
            model_card = with_own_folders(model_card, own, before, str(place.experiment_file))
        manifest = read_source(source, model_card, split=split, reports=reports, only_site=only_site)
        console = Terminal(stderr=True)
        columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        lines = ProgressLines("images")

        with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
            task = progress.add_task("images", total=None)

            def decoded(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)
                # A bar needs a terminal; a log file gets a line now and then.
                if not console.is_terminal and not as_json:
                    lines(done, total)

            report = import_data(
                folder,
                manifest,
                model_card,
                options,
                decoded,
            )

        if settings is not None:
            from client.cohort.imports.study_counts import signed_counts  # noqa: PLC0415 - the keys

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
    """Show studies by set and label, and the number of patients who must not be used."""
    from client.cohort.imports.set_counts import count_sets  # noqa: PLC0415
    from client.cohort.site_files import read_site  # noqa: PLC0415
    from client.revocations.tombstones.overview import read_revocations  # noqa: PLC0415 - the database

    with clear_errors():
        file = read_site(folder)
        tombstones = read_revocations(folder, file.subsets).tombstones
        sets = count_sets(file.cohort, file.subsets, tombstones)
        present = len(tombstones & frozenset(file.cohort.patients))
        patients = {"stopped": len(tombstones), "stopped_and_here": present}
        show({**sets, "patients": patients}, _sets_table(sets), as_json=as_json)
        if not as_json:
            missing_text = f"{len(tombstones) - present} of them no longer have studies here"
            show(None, f"{counted(len(tombstones), 'patient')} must not be used; {missing_text}", as_json=False)


def register(app: typer.Typer) -> None:
    """Add the command group to the site's command line."""
    app.add_typer(data, name="data")


def _sets_table(sets: dict[str, dict[str, int]]) -> RenderableType:
    labels = list(next(iter(sets.values())))
    return rows_table(("studies of", *labels), [(name, *counts.values()) for name, counts in sets.items()])
