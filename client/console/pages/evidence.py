"""What leaves the desk about a receipt: the letter as PDF or text, and the evidence as one archive."""

from __future__ import annotations

from starlette.responses import Response

from client.account.dossier import dossier
from client.account.letter.letter import Sender, compose
from client.account.letter.subject import subject_of
from client.console.desk import AUDITOR, OFFICE, STEWARD, Desk
from client.console.pages.case import found
from client.revocations.linkage.tokens import read_linkage
from common.platform.console.page import Page, Visit, download
from common.platform.console.settings import LANGUAGES
from common.platform.dossier.pdf import as_pdf


def pages(desk: Desk) -> list[Page]:
    """The downloads of a case."""

    def letter(visit: Visit) -> Response:
        receipt = found(desk, visit).receipt
        config = desk.settings.letter
        wish = visit.query("language")
        language = next((one for one in LANGUAGES if one == wish), config.language)
        patient = visit.field("patient", 200) or None
        subject = subject_of(desk.ledger, read_linkage(desk.folder), receipt, patient)
        sender = Sender(config.sender, config.contact)
        if visit.query("format") == "text":
            page = compose(subject, sender, language, visit.now, form="text")
            return download(page.encode(), f"letter-{receipt}.txt", "text/plain; charset=utf-8")
        page = compose(subject, sender, language, visit.now)
        return download(as_pdf(page), f"letter-{receipt}.pdf", "application/pdf")

    def evidence(visit: Visit) -> Response:
        receipt = found(desk, visit).receipt
        content = dossier(desk.ledger, read_linkage(desk.folder), receipt)
        person = visit.person
        visit.console.record("evidence-exported", visit.now, (*person.key, person.name), receipt=receipt)
        return download(content, f"evidence-{receipt}.zip", "application/zip")

    return [
        Page("/cases/{receipt}/letter", letter, roles=OFFICE),
        Page("/cases/{receipt}/evidence", evidence, roles=frozenset({STEWARD, AUDITOR})),
    ]
