"""`fedforget-server attestation`: show, export and countersign the attestations of campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show, sub_app
from common.printable import printable

if TYPE_CHECKING:
    from server.attestation.attestation import Standing

app = sub_app("Show, export and sign attestations. An attestation states what was done for the patients who revoked.")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Campaign number, from `campaign list`.")]


@app.command("show", epilog="Example: fedforget-server attestation show 2 --dir federation")
def show_attestation(number: Number, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show what the attestation of a campaign says, who has signed it, and which signatures are missing."""
    from common.platform.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation.attestation import standing  # noqa: PLC0415
    from server.attestation.evaluator_signature import evaluator_key, state  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        evaluator = evaluator_key(house.folder)
        with transaction(house.engine) as session:
            status = standing(session, number)
        fields = {**_fields(status), "evaluator": state(status.envelope, evaluator)}
        lines_by_field = {name: _line(value).split("\n") for name, value in fields.items()}
        show(fields, fields_table(lines_by_field), as_json=as_json)


@app.command(epilog="Example: fedforget-server attestation export 2 for-the-auditor --dir federation")
def export(
    number: Number,
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write to.")],
    whole: Annotated[
        bool, typer.Option("--whole-log", help="Include all leaves, to compare with any checkpoint of a hospital.")
    ] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Export the attestation and its log proof to a new folder, for `fedforget-site verify`."""
    from common.platform.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation import export as attestation_export  # noqa: PLC0415
    from server.attestation.attestation import standing  # noqa: PLC0415
    from server.attestation.event_log import server_log  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        server = house.signing_key().public
        log = server_log(house.store.clock)
        with transaction(house.engine) as session:
            status = standing(session, number)
            files = attestation_export.export(session, log, status, server, to, whole=whole)

        proven = attestation_export.BUNDLE_FILE in files
        missing = "" if proven else "; no hospital has co-signed the log since: export again in a minute"
        human = f"{to}: {', '.join(files)}; {status.text}{missing}"
        show({"folder": str(to), "files": files, "state": status.text}, human, as_json=as_json)


@app.command(epilog="Example: fedforget-server attestation sign attestation.json --key evaluator.pem")
def sign(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Exported attestation, to which the signature is added.")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="Private key (PEM), encrypted with a passphrase.")],
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", metavar="FILE", help="File with the passphrase.", show_default="prompt"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign an attestation as the evaluator. Works offline; check the attestation with `verify` first."""
    from common.evidence import dsse  # noqa: PLC0415 - cryptography, for commands that need it
    from common.evidence.countersignature import claims_of, countersign, read_statement  # noqa: PLC0415
    from common.evidence.keys import SigningKey  # noqa: PLC0415
    from common.files import read_private, write_bytes  # noqa: PLC0415
    from common.platform.keys.passphrase import ask_passphrase  # noqa: PLC0415

    with clear_errors():
        data = _read(file)
        claims = claims_of(read_statement(dsse.decode_envelope(data)))
        if not as_json:
            show(None, "\n  ".join(("to be signed:", *map(printable, claims))), as_json=False)
        signer = SigningKey.from_pem(read_private(key), ask_passphrase(passphrase_file, str(key)))
        write_bytes(file, countersign(data, signer))
        keyid = signer.public.keyid
        show({"file": str(file), "keyid": keyid, "claims": claims}, f"{file}: signed by key {keyid}", as_json=as_json)


@app.command(epilog="Example: fedforget-server attestation accept attestation.json --dir federation")
def accept(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Attestation with the evaluator's signature.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Store the evaluator's signature, so that every later export includes it."""
    from common.platform.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation.evaluator_signature import accept as take  # noqa: PLC0415
    from server.attestation.evaluator_signature import evaluator_key  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        data = _read(file)
        evaluator = evaluator_key(house.folder)
        if evaluator is None:
            remedy = 'name it, as evaluator_key = "evaluator.pub"'
            raise InputError("no evaluator is named", where=str(house.folder.settings_file), remedy=remedy)

        with transaction(house.engine) as session:
            number = take(session, data, evaluator, house.store.clock)
        show({"campaign": number}, f"the evaluator's signature stands below campaign {number}", as_json=as_json)


def dossier(
    name: Annotated[str, typer.Argument(metavar="VERSION", help="Version name, from `models list`.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="New ZIP file to write.", show_default="dossier-VERSION.zip"),
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write a version's dossier for a regulator: a PDF, signed statements, proofs, keys and the verifier as one ZIP."""
    import hashlib  # noqa: PLC0415 - with the rest of what this command needs

    from common.platform.dossier.archive import assemble, refuse_existing, write_new  # noqa: PLC0415
    from common.platform.sql import reading  # noqa: PLC0415
    from server.attestation.dossier import content_of  # noqa: PLC0415
    from server.attestation.evaluator_signature import evaluator_key  # noqa: PLC0415
    from server.attestation.event_log import server_log  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        with reading(house.engine) as session:
            content = content_of(session, server_log(house.store.clock), name, evaluator_key(house.folder))
        to = out or Path(f"dossier-{name}.zip")
        refuse_existing(to)
        archive = assemble(content)

        files = write_new(to, archive)
        digest = hashlib.sha256(archive).hexdigest()
        human = f"{to}: {len(files)} files; start with dossier.pdf\nsha256 {digest}"
        show({"file": str(to), "sha256": digest, "files": files}, human, as_json=as_json)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=str(file), remedy="check the path") from None


def _fields(standing: Standing) -> dict[str, Any]:
    from common.evidence import statements  # noqa: PLC0415 - for this command alone
    from common.evidence.outcomes.acceptance import accepted_by  # noqa: PLC0415
    from common.evidence.schema import to_json  # noqa: PLC0415

    fields: dict[str, Any] = {"campaign": standing.campaign, "version": standing.version, "state": standing.text}
    if standing.envelope is None:
        return fields
    files, unlearning = statements.read_unlearning(standing.envelope.body)
    values = to_json(unlearning)
    acceptance_rows = accepted_by(unlearning)
    if acceptance_rows is not None:
        fields |= {"warning": acceptance_rows.warning} if acceptance_rows.warning else {}
        fields["acceptance"] = list(acceptance_rows.lines)

    keys = [signature.keyid for signature in standing.envelope.signatures]
    subjects = {file.name: file.sha256 for file in files}

    return {**fields, "keys": keys, "subjects": subjects, **(values if isinstance(values, dict) else {})}


def _line(value: Any) -> str:
    from common.evidence.schema import rounded  # noqa: PLC0415 - as above

    match value:
        case {"name": name, "value": number, "low": low, "high": high, "level": level, "n": n, "reportedBy": by}:
            lines_by_field = f"{name}: {rounded(number)} ({rounded(low)} to {rounded(high)} at {level})"
            return f"{lines_by_field}, n {n}, by the {by}"
        case dict():
            return "\n".join(f"{name}: {_line(item)}" for name, item in value.items())
        case list():
            return "\n".join(map(_line, value))
        case _:
            return printable(str(value))
