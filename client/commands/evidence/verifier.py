"""`fedforget-site verifier`: the verifier as one file, for an auditor who does not install FedForget."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from common.platform.terminal.console import AsJson, clear_errors, show


def verifier(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, e.g. verify.pyz.")],
    as_json: AsJson = False,
) -> None:
    """Write the verifier as one file, which needs only Python and the cryptography package. Print its SHA-256."""
    from common.evidence.stand_alone import verifier_archive  # noqa: PLC0415 - for this command alone
    from common.files import write_bytes  # noqa: PLC0415

    with clear_errors():
        archive = verifier_archive()
        write_bytes(to, archive)
        digest = hashlib.sha256(archive).hexdigest()
        human = f"{to}: run it with `python {to.name} --help`\nsha256 {digest}"
        show({"file": str(to), "sha256": digest}, human, as_json=as_json)
