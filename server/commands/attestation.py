"""`fedforget-server attestation`: what was attested of a campaign, and the files that an auditor checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.terminal import AsJson, Folder, clear_errors, fields_table, show, sub_app

if TYPE_CHECKING:
    from server.attestation import Standing

app = sub_app("Attestations: what was done for whom revoked, signed by the coordinator and the forgetting hospitals.")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the campaign, as `campaign list` shows it.")]


@app.command("show", epilog="Example: fedforget-server attestation show 2 --dir federation")
def show_attestation(number: Number, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show what the attestation of a campaign says, who has signed it, and whom it waits for."""
    from common.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation import standing  # noqa: PLC0415
    from server.house import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        with transaction(house.engine) as session:
            fields = _fields(standing(session, number))
        shown = {name: _line(value) for name, value in fields.items()}
        show(fields, fields_table(shown), as_json=as_json)


@app.command(epilog="Example: fedforget-server attestation export 2 for-the-auditor --dir federation")
def export(
    number: Number,
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    whole: Annotated[
        bool, typer.Option("--whole-log", help="All leaves, to compare with any checkpoint of a hospital.")
    ] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write the attestation and its proof from the log to a new folder, for `fedforget-site verify`."""
    from common.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server import attestation_export  # noqa: PLC0415
    from server.attestation import standing  # noqa: PLC0415
    from server.event_log import server_log  # noqa: PLC0415
    from server.house import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        server, log = house.signer().key.public, server_log(house.store.clock)
        with transaction(house.engine) as session:
            found = standing(session, number)
            files = attestation_export.export(session, log, found, server, to, whole=whole)
        proven = attestation_export.BUNDLE_FILE in files
        missing = "" if proven else "; no hospital has co-signed the log since: export again in a minute"
        human = f"{to}: {', '.join(files)}; {found.text}{missing}"
        show({"folder": str(to), "files": files, "state": found.text}, human, as_json=as_json)


def _fields(found: Standing) -> dict[str, Any]:
    from common.evidence import statements  # noqa: PLC0415 - for this command alone
    from common.evidence.schema import to_json  # noqa: PLC0415

    fields: dict[str, Any] = {"campaign": found.campaign, "version": found.version, "state": found.text}
    if found.envelope is None:
        return fields
    files, unlearning = statements.read_unlearning(found.envelope.body)
    said = to_json(unlearning)
    keys = [signature.keyid for signature in found.envelope.signatures]
    subjects = {file.name: file.sha256 for file in files}
    return {**fields, "keys": keys, "subjects": subjects, **(said if isinstance(said, dict) else {})}


def _line(value: Any) -> str:
    match value:
        case {"name": name, "value": number, "low": low, "high": high, "level": level, "n": n, "reportedBy": by}:
            return f"{name}: {number} ({low} to {high} at {level}), n {n}, by the {by}"
        case dict():
            return "\n".join(f"{name}: {_line(item)}" for name, item in value.items())
        case list():
            return "\n".join(map(_line, value))
        case _:
            return str(value)
