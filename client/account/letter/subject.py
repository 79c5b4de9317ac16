"""What a letter is about: one patient's revocation, its steps, and what the signed statements say of it."""

from __future__ import annotations

from datetime import datetime

from client.account.account import versions_that_may_remember
from client.account.letter.letter import Subject
from client.evidence.event_log import SiteLog
from client.revocations.exemptions import exemptions_of
from client.revocations.ledger import Ledger
from client.revocations.linkage.status import linkage_statuses
from client.revocations.linkage.tokens import Linkage
from client.revocations.revocation import RevocationStatus, State
from common.errors import InputError
from common.evidence.outcomes.acceptance import accepted_by
from common.platform.sql import reading


def subject_of(ledger: Ledger, linkage: Linkage | None, receipt: str, patient: str | None = None) -> Subject:
    """The subject of the letter about a receipt.

    Args:
        patient: identifier of one of its patients; needed if they are in different states.

    Raises:
        InputError: no such receipt, or it is not clear which of its patients the letter is for.
    """
    revocations = ledger.standing(receipt)

    if patient is not None:
        name = ledger.pseudonyms.of(ledger.spelled(patient))
        revocations = tuple(standing for standing in revocations if standing.pseudonym == name)

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
    copies = _copies(ledger, first)
    with reading(ledger.engine) as session:
        decisions = exemptions_of(session, [first.number]).get(first.number, ())
    kept = tuple(one.exemption for one in decisions)

    if first.state in (State.UNLEARNED, State.RETRAINED) and first.campaign is not None:
        with reading(ledger.engine) as session:
            log = SiteLog(ledger.folder, ledger.engine, ledger.clock)
            attestation = log.attestations(session).get(first.campaign)

    if attestation is None:
        return Subject(first, history, answers_elsewhere.pop(), copies=copies, exemptions=kept)
    _, unlearning = attestation
    until = datetime.fromisoformat(unlearning.locked_until) if unlearning.locked_until else None

    return Subject(
        first,
        history,
        answers_elsewhere.pop(),
        accepted_by(unlearning),
        until,
        unlearning.overruled is not None,
        copies,
        kept,
    )


def _copies(ledger: Ledger, standing: RevocationStatus) -> tuple[int, int] | None:
    """Copies of the versions that may remember, and those of which the deletion is confirmed; None: not known."""
    lists = [version.heard for version in versions_that_may_remember(ledger, standing)]
    if not lists or None in lists:
        return None
    recipients = [one for one_list in lists if one_list is not None for one in one_list.recipients]

    return len(recipients), sum(one.deleted is not None for one in recipients)
