"""`fedforget-site letter`: the page that tells a patient what became of the revocation."""

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
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="As `revocations list` shows it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it: one page, to print.")],
    form: Annotated[
        Literal["html", "text"], typer.Option("--format", help="HTML, or plain text for a mail or a word processor.")
    ] = "html",
    language: Annotated[
        Literal["en", "de"] | None, typer.Option("--language", help="Of the letter.  [as site.toml says, else en]")
    ] = None,
    patient_file: Annotated[
        Path | None, typer.Option("--patient-file", help="Holds one id, where a receipt's patients stand differently.")
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write a patient's letter: what was done and when, what remains, whom to ask, how to check; it names nobody."""
    from datetime import UTC, datetime  # noqa: PLC0415 - the database, for commands that need it

    from client.account.letter.letter import Sender, compose  # noqa: PLC0415
    from client.revocations.linkage.tokens import read_linkage  # noqa: PLC0415
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.files import write_text  # noqa: PLC0415

    with clear_errors():
        place = SiteFolder(folder)
        config = place.settings().letter
        with open_ledger(place) as ledger:
            subject = _subject(ledger, read_linkage(place), receipt, patient_file)
        chosen = language or config.language
        page = compose(subject, Sender(config.sender, config.contact), chosen, datetime.now(UTC), form=form)
        write_text(out, page)
        state = str(subject.standing.state)
        contact = bool(config.contact.strip())
        missing = "" if contact else "\nWARNING: no contact in site.toml ([letter]): fill in whom to ask by hand"
        show(
            {"file": str(out), "state": state, "language": chosen, "contact": contact},
            f"{out}: {state}; print and sign it{missing}",
            as_json=as_json,
        )


def _subject(ledger: Ledger, linkage: Linkage | None, receipt: str, patient_file: Path | None) -> Subject:
    from datetime import datetime  # noqa: PLC0415

    from client.account.letter.letter import Subject  # noqa: PLC0415
    from client.evidence.event_log import SiteLog  # noqa: PLC0415
    from client.revocations.linkage.told import told_of  # noqa: PLC0415
    from client.revocations.revocation import State  # noqa: PLC0415
    from common.evidence.acceptance import accepted_by  # noqa: PLC0415
    from common.learning.data.tables.patient_list import read_patient_list  # noqa: PLC0415
    from common.platform.sql import reading  # noqa: PLC0415

    found = ledger.standing(receipt)

    if patient_file is not None:
        names = [ledger.pseudonyms.of(ledger.spelled(patient)) for patient in read_patient_list(patient_file)]
        if len(names) != 1:
            raise InputError("a letter is for one patient", where=str(patient_file), remedy="put one id into it")
        found = tuple(standing for standing in found if standing.pseudonym == names[0])

    if not found:
        raise InputError("no such receipt, or not this patient's", remedy="fedforget-site revocations list")
    told = set(told_of(ledger, linkage, found))
    if len(told) > 1 or len({(standing.state, standing.due, standing.campaign) for standing in found}) > 1:
        raise InputError("this receipt's patients stand differently", remedy="give the one by --patient-file")
    history = [event for event in ledger.history(receipt) if event.revocation == found[0].number]
    first = found[0]
    attested = None

    if first.state in (State.UNLEARNED, State.RETRAINED) and first.campaign is not None:
        with reading(ledger.engine) as session:
            log = SiteLog(ledger.folder, ledger.engine, ledger.clock)
            attested = log.attestations(session).get(first.campaign)

    if attested is None:
        return Subject(first, history, told.pop())
    _, said = attested
    until = datetime.fromisoformat(said.locked_until) if said.locked_until else None

    return Subject(first, history, told.pop(), accepted_by(said), until, said.overruled is not None)
