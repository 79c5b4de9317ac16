"""`fedforget-site revoke`: record revocations. Identifiers are never part of a command line."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from client.commands.rights.ledger_access import Who, acting, moment, opened, say_if_down
from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show


def revoke(
    patient_file: Annotated[
        Path | None,
        typer.Option("--patient-file", help="File with one id per line, or a CSV with a column patient_id."),
    ] = None,
    scope: Annotated[
        Literal["all", "images", "reports"],
        typer.Option("--scope", help="What the model must forget. All use of the patient's data stops in any case."),
    ] = "all",
    document: Annotated[
        Path | None, typer.Option("--document", help="Signed form; kept in vault/, with a commitment in the record.")
    ] = None,
    received: Annotated[
        str | None, typer.Option("--received", help="Date of receipt, e.g. 2026-03-01.", show_default="now")
    ] = None,
    requester: Annotated[
        str, typer.Option("--requester", help="Role of the person who asked, e.g. guardian.")
    ] = "patient",
    identity_check: Annotated[
        str, typer.Option("--identity-check", help="How their identity was checked; must not identify anybody.")
    ] = "not recorded",
    kind: Annotated[
        Literal["withdrawal", "objection", "erasure", "opt-out"],
        typer.Option("--kind", help="Kind of request; an opt-out of secondary use can be taken back."),
    ] = "withdrawal",
    legal_basis: Annotated[
        str | None, typer.Option("--legal-basis", help="Legal basis.", show_default="the usual one for the kind")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="Code of a withdrawn consent policy; may be repeated.", show_default="all"),
    ] = None,
    steward: Who = None,
    also_unknown: Annotated[
        bool, typer.Option("--also-unknown", help="Also record unknown patients, so that later imports exclude them.")
    ] = False,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Record that patients have revoked: use of their data stops at once, and the model must forget them.

    Without --patient-file, the command prompts for the ids without showing them, or reads them from standard input.
    """
    from secrets import token_bytes, token_hex  # noqa: PLC0415 - with what follows, for commands that need it

    from client.consent.kinds import usual_basis  # noqa: PLC0415
    from client.intake.office import Form, hand_in  # noqa: PLC0415
    from client.intake.permission import permissions_of  # noqa: PLC0415
    from client.revocations.vault import Vault  # noqa: PLC0415
    from common.learning.data.tables.patient_list import read_patient_list  # noqa: PLC0415

    with clear_errors("stopped; nothing was recorded unless a receipt was printed"), opened(folder) as ledger:
        now = ledger.clock()
        place = ledger.folder
        actor = acting(steward)
        form = Form(
            received=moment(received, "--received") if received else now,
            scope=scope,
            policies=tuple(policy or ()),
            kind=kind,
            legal_basis=(legal_basis or "").strip(),
            requester=requester,
            identity_check=identity_check,
            steward=actor.name,
            identity=actor.identity,
            document=_document(document) if document else b"",
        )
        receipt = hand_in(
            ledger,
            permissions_of(ledger) if place.settings_file.exists() else None,
            Vault(place.vault, token_bytes),
            read_patient_list(patient_file, ledger.is_near) if patient_file else _from_input(ledger.is_near),
            form,
            token_hex(8),
            also_unknown=also_unknown,
        )
        fields = {
            "receipt": receipt.receipt,
            "kind": kind,
            "legal_basis": form.legal_basis or usual_basis(kind),
            "patients": receipt.patients,
            "known": receipt.known,
            "unknown": receipt.unknown,
            "doubtful": receipt.doubtful,
            "note": receipt.note,
            "revoked_before": receipt.earlier,
            "received": receipt.received,
            "due": receipt.due,
            "recorded": now,
            "other_hospitals": receipt.others,
        }
        linkage_note = f"{receipt.others}, informed while `fedforget-site up` runs"
        other_hospitals = linkage_note if receipt.others is not None else "not reached: no linkage is configured"
        show(fields, fields_table({**fields, "other_hospitals": other_hospitals}), as_json=as_json)
        say_if_down(folder, as_json=as_json)


def _from_input(is_patient: Callable[[str], bool]) -> tuple[str, ...]:
    """Ids from standard input, or typed without echo."""
    from common.learning.data.tables.patient_list import parse_patient_list, parse_patients  # noqa: PLC0415

    if not sys.stdin.isatty():
        return parse_patient_list(sys.stdin.buffer.read(), "standard input", is_patient)
    lines = []
    while line := getpass.getpass("patient id (not shown; empty to end): "):
        lines.append(line)
    return parse_patients("\n".join(lines), "the ids typed", is_patient)


def _document(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror}", where="--document", remedy="check the path") from None
