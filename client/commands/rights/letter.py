"""`fedforget-site letter`: a page that tells a patient the outcome of their revocation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def letter(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `revocations list` shows it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: one page, ready to print.")],
    form: Annotated[
        Literal["html", "text", "pdf"],
        typer.Option("--format", help="Format: HTML, a tagged PDF/A, or plain text for an e-mail or a word processor."),
    ] = "html",
    language: Annotated[
        Literal["en", "de", "fr"] | None,
        typer.Option("--language", help="Language of the letter.", show_default="site.toml, else en"),
    ] = None,
    patient_file: Annotated[
        Path | None,
        typer.Option(
            "--patient-file", help="File with one patient id, if the receipt's patients are in different states."
        ),
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write a letter to a patient: what was done and when, what remains, the contact, how to check. It names nobody."""
    from datetime import UTC, datetime  # noqa: PLC0415 - the database, for commands that need it

    from client.account.letter.letter import Sender, compose  # noqa: PLC0415
    from client.account.letter.subject import subject_of  # noqa: PLC0415
    from client.revocations.linkage.tokens import read_linkage  # noqa: PLC0415
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.evidence.outcomes.grounds_text import outcome_text  # noqa: PLC0415
    from common.files import write_durable, write_text  # noqa: PLC0415
    from common.platform.dossier.pdf import as_pdf  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        config = place.settings().letter
        with open_ledger(place) as ledger:
            patient = _patient(patient_file) if patient_file is not None else None
            subject = subject_of(ledger, read_linkage(place), receipt, patient)
        letter_language = language or config.language
        sender = Sender(config.sender, config.contact)
        text_form: Literal["html", "text"] = "text" if form == "text" else "html"
        page = compose(subject, sender, letter_language, datetime.now(UTC), form=text_form)
        if form == "pdf":
            write_durable(out, as_pdf(page))
        else:
            write_text(out, page)
        state = str(subject.standing.state)
        result = subject.seen
        outcome = None if result is None else result.outcome
        decision = "" if result is None else f"; {outcome_text(result.outcome, result.grounds)}"
        contact = bool(config.contact.strip())
        missing = "" if contact else "\nWARNING: site.toml has no contact under [letter]: fill it in by hand"
        show(
            {"file": str(out), "state": state, "outcome": outcome, "language": letter_language, "contact": contact},
            f"{out}: {state}{decision}; print and sign it{missing}",
            as_json=as_json,
        )


def _patient(path: Path) -> str:
    from common.learning.data.tables.patient_list import read_patient_list  # noqa: PLC0415 - for this option alone

    patients = read_patient_list(path)
    if len(patients) != 1:
        raise InputError("a letter is for one patient", where=str(path), remedy="put exactly one id in the file")
    return patients[0]
