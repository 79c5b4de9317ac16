"""`fedforget-site letter`: a page that tells a patient the outcome of their revocation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show

if TYPE_CHECKING:
    from client.account.letter.letter import Subject
    from client.revocations.ledger import Ledger
    from client.revocations.linkage.tokens import Linkage


def letter(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `revocations list` shows it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: one page, ready to print.")],
    form: Annotated[
        Literal["html", "text"],
        typer.Option("--format", help="Format: HTML, or plain text for an e-mail or a word processor."),
    ] = "html",
    language: Annotated[
        Literal["en", "de"] | None, typer.Option("--language", help="Language of the letter.  [site.toml, else en]")
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
    from client.revocations.linkage.tokens import read_linkage  # noqa: PLC0415
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.evidence.grounds_text import outcome_text  # noqa: PLC0415
    from common.files import write_text  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        config = place.settings().letter
        with open_ledger(place) as ledger:
            subject = _subject(ledger, read_linkage(place), receipt, patient_file)
        letter_language = language or config.language
        page = compose(subject, Sender(config.sender, config.contact), letter_language, datetime.now(UTC), form=form)
        write_text(out, page)
        state = str(subject.standing.state)
        seen = subject.seen
        outcome = None if seen is None else seen.outcome
        decision = "" if seen is None else f"; {outcome_text(seen.outcome, seen.grounds)}"
        contact = bool(config.contact.strip())
        missing = "" if contact else "\nWARNING: site.toml has no contact under [letter]: fill it in by hand"
        show(
            {"file": str(out), "state": state, "outcome": outcome, "language": letter_language, "contact": contact},
            f"{out}: {state}{decision}; print and sign it{missing}",
            as_json=as_json,
        )


def _subject(ledger: Ledger, linkage: Linkage | None, receipt: str, patient_file: Path | None) -> Subject:
    from datetime import datetime  # noqa: PLC0415

    from client.account.letter.letter import Subject  # noqa: PLC0415
    from client.evidence.event_log import SiteLog  # noqa: PLC0415
    from client.revocations.linkage.status import linkage_statuses  # noqa: PLC0415
    from client.revocations.revocation import State  # noqa: PLC0415
    from common.evidence.acceptance import accepted_by  # noqa: PLC0415
    from common.learning.data.tables.patient_list import read_patient_list  # noqa: PLC0415
    from common.platform.sql import reading  # noqa: PLC0415

    revocations = ledger.standing(receipt)

    if patient_file is not None:
        names = [ledger.pseudonyms.of(ledger.spelled(patient)) for patient in read_patient_list(patient_file)]
        if len(names) != 1:
            raise InputError(
                "a letter is for one patient", where=str(patient_file), remedy="put exactly one id in the file"
            )
        revocations = tuple(standing for standing in revocations if standing.pseudonym == names[0])

    if not revocations:
        raise InputError("no such receipt, or it is not this patient's", remedy="fedforget-site revocations list")
    answers_elsewhere = set(linkage_statuses(ledger, linkage, revocations))
    if (
        len(answers_elsewhere) > 1
        or len({(standing.state, standing.due, standing.campaign) for standing in revocations}) > 1
    ):
        raise InputError(
            "the receipt's patients are in different states", remedy="name one of them with --patient-file"
        )
    history = [event for event in ledger.history(receipt) if event.revocation == revocations[0].number]
    first = revocations[0]
    attestation = None

    if first.state in (State.UNLEARNED, State.RETRAINED) and first.campaign is not None:
        with reading(ledger.engine) as session:
            log = SiteLog(ledger.folder, ledger.engine, ledger.clock)
            attestation = log.attestations(session).get(first.campaign)

    if attestation is None:
        return Subject(first, history, answers_elsewhere.pop())
    _, unlearning = attestation
    until = datetime.fromisoformat(unlearning.locked_until) if unlearning.locked_until else None

    return Subject(
        first, history, answers_elsewhere.pop(), accepted_by(unlearning), until, unlearning.overruled is not None
    )
