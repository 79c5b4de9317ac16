"""`fedforget-site verify`: check an attestation offline, with public keys only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson

Files = list[Path] | None
ATTESTATION_FILE = "attestation.json"
BUNDLE_FILE = "bundle.json"


def verify(
    bundle: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="Folder that `attestation export` wrote, or an attestation file."),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="NAME=FILE",
            help="Public key (PEM) of a party: site, server, ... Get it from that party directly.",
        ),
    ] = None,
    history: Annotated[Files, typer.Option("--history", help="Key history of a party with several keys.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", metavar="NAME", help="Party that must have signed.", show_default="site, server"),
    ] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Log bundle, if it is not in the folder.")] = None,
    checkpoint: Annotated[Files, typer.Option("--checkpoint", help="Checkpoint that another hospital holds.")] = None,
    model: Annotated[Files, typer.Option("--model", help="Weights file of the model in use.")] = None,
    revocation: Annotated[Files, typer.Option("--revocation", help="Signed statement about a revocation.")] = None,
    leaf: Annotated[Files, typer.Option("--leaf", help="Leaf of a hospital's log, as `log open` wrote it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an attestation, and say what it does not show. Exits with 6 if a check fails."""
    from common.evidence.verify import main  # noqa: PLC0415 - cryptography, for this command alone

    log_bundle = bundle / BUNDLE_FILE
    arguments = [str(bundle / ATTESTATION_FILE if bundle.is_dir() else bundle), *(["--json"] if as_json else [])]
    if log is not None or (bundle.is_dir() and log_bundle.exists()):
        arguments.append(f"--log={log or log_bundle}")
    many: dict[str, Sequence[object] | None] = {
        "key": key,
        "history": history,
        "require": require,
        "checkpoint": checkpoint,
        "model": model,
        "revocation": revocation,
        "leaf": leaf,
    }
    arguments += [f"--{option}={value}" for option, values in many.items() for value in values or ()]
    raise typer.Exit(main(arguments))
