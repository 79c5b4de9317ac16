"""`encoder`: what FedForget understands of a local encoder folder, before anything is trained with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from common.platform.terminal.console import AsJson, Terminal
from simulations.commands.options import errors


def encoder(
    folder: Annotated[Path, typer.Argument(help="Local folder of an image or text encoder.", show_default=False)],
    reads: Annotated[
        Literal["image", "text"] | None,
        typer.Option(help="Tower to read, if the folder has both, e.g. CLIP."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show family, size, normalisation, pooling, parameters, licence and digest of an encoder folder.

    Loads the encoder and runs it once on an empty input, as training does first.
    """
    from common.learning.model.encoder_report import report_on

    with errors():
        report = report_on(folder, reads)

        if as_json:
            sys.stdout.write(json.dumps(report, indent=2) + "\n")
        else:
            width = max(map(len, report))
            for name, value in report.items():
                Terminal().print(f"{name:<{width}}  {_shown(value)}", markup=False, highlight=False, soft_wrap=True)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{number:.6g}" if isinstance(number, float) else str(number) for number in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
