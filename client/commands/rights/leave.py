"""`fedforget-site leave`: a hospital leaves, and the model must forget all its patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.commands.rights.ledger_access import Who, acting, opened, say_if_down
from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show


def leave(
    confirm: Annotated[str, typer.Option("--confirm", metavar="NAME", help="Name of the hospital, as a confirmation.")],
    steward: Who = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Withdraw all patients of this hospital: their data are not used again, and a new model is trained without them.

    Keep `fedforget-site up` running until `revocations list` shows that all are settled. Then the coordinator revokes
    the site.
    """
    from secrets import token_hex  # noqa: PLC0415 - with what follows, for the command that needs it

    from client.revocations.known import known_patients  # noqa: PLC0415
    from client.revocations.revocation import Request, Source  # noqa: PLC0415
    from client.revocations.workflow.interrupted import begun_before  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors("stopped; nothing was recorded unless a receipt was printed"), opened(folder) as ledger:
        name = SiteFolder(folder).settings().name
        if confirm != name:
            raise InputError(f"this hospital is {name}", where="--confirm", remedy="repeat its name to confirm")
        number = token_hex(8)
        actor = acting(steward)
        request = Request(
            Source("cli", number),
            number,
            ledger.clock(),
            kind="erasure",
            legal_basis="the hospital leaves the federation",
            requester="hospital",
            identity_check="not needed",
            steward=actor.name,
            identity=actor.identity,
        )
        patients = [*known_patients(folder)]
        with ledger.writing() as writing:
            # A `leave` that broke off, e.g. on a full disk, goes on with the receipt of its tombstones.
            receipt = ledger.add(writing, begun_before(ledger, writing, request, patients), patients)
        fields = {
            "receipt": receipt.receipt,
            "patients": receipt.patients,
            "revoked_before": receipt.earlier,
            "due": receipt.due,
        }
        show(fields, fields_table(fields), as_json=as_json)
        say_if_down(folder, as_json=as_json)
