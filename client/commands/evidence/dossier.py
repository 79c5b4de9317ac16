"""`fedforget-site dossier`: everything about one receipt for a regulator, as one archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def dossier(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `revocations list` shows it.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="New ZIP file to write.", show_default="dossier-RECEIPT.zip"),
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write a receipt's dossier for a regulator: a PDF, signed statements, proofs, keys and the verifier as one ZIP."""
    import hashlib  # noqa: PLC0415 - with the rest of what this command needs

    from client.account.dossier import dossier as made  # noqa: PLC0415
    from client.revocations.linkage.tokens import read_linkage  # noqa: PLC0415
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.platform.dossier.archive import refuse_existing, write_new  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        with open_ledger(place) as ledger:
            archive = made(ledger, read_linkage(place), receipt)

        to = out or Path(f"dossier-{receipt}.zip")
        refuse_existing(to)
        files = write_new(to, archive)
        digest = hashlib.sha256(archive).hexdigest()
        human = f"{to}: {len(files)} files; start with dossier.pdf\nsha256 {digest}"
        show({"file": str(to), "sha256": digest, "files": files}, human, as_json=as_json)
