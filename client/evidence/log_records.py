"""Builds the records of the site's log from its database: statements, holds, accesses and model versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from client.database import HoldingRow
from client.revocations.revocation import STATED_SOURCE, RevocationStatus, State, nobody_asked
from client.revocations.rows.ledger_rows import standing_of
from client.revocations.rows.ledger_tables import AccessRow, ExemptionRow, RevocationRow
from common.evidence.canonical import Json, canonical
from common.evidence.schema import time_text
from common.evidence.statements import Revocation as Statement
from common.evidence.statements import revocation_statement
from common.platform.event_log.store import EventLog, Record

_ABOUT_A_RECEIPT = ("revocation", "tombstone", "consent", "steward", "hold", "hold-ended", "readmitted")


def sources_about(log: EventLog, session: Session, receipt: str) -> list[str]:
    """Names in the log's vault of the records about a receipt, those included that it does not have."""
    # A receipt can have several exceptions, numbered.
    return [*(f"{kind}:{receipt}" for kind in _ABOUT_A_RECEIPT), *log.sources(session, f"exempted:{receipt}:")]


def receipts_of(session: Session) -> dict[str, dict[str, RevocationStatus]]:
    """All revocations by receipt and pseudonym."""
    by_receipt: dict[str, dict[str, RevocationStatus]] = {}
    for standing in standing_of(session):
        by_receipt.setdefault(standing.receipt, {})[standing.pseudonym] = standing
    return by_receipt


def statement_of(site: str, receipt: str, entries: dict[str, RevocationStatus], document: str) -> bytes:
    """The statement that revocations were received under a receipt; `document` is the commitment to its form."""
    first = min(entries.values(), key=lambda standing: standing.number)
    first_receipt = min(entry.received for entry in entries.values())
    # The schema wants a due date after receipt, which a site's short promise may not give.
    due = max(min(entry.due for entry in entries.values()), _second_after(first_receipt))

    return revocation_statement(
        Statement(
            document=document,
            request=receipt,
            site=site,
            source=STATED_SOURCE[first.source.kind],
            kind=first.kind,
            legal_basis=first.legal_basis,
            requester=first.requester,
            identity_check=first.identity_check,
            modalities=("images", "reports") if first.scope == "all" else (first.scope,),
            policies=first.policies,
            received=time_text(first_receipt),
            effective=time_text(first.effective),
            due=time_text(due),
        )
    )


def all_in_doubt(entries: dict[str, RevocationStatus]) -> bool:
    """Whether a receipt contains only holds because of a doubt, and no revocation."""
    return all(nobody_asked(s.receipt) and s.state in (State.ON_HOLD, State.REFUSED) for s in entries.values())


def hold_records(session: Session) -> Iterator[Record]:
    """Start and end of holds that the patients did not ask for."""
    for receipt, entries in receipts_of(session).items():
        if not nobody_asked(receipt):
            continue
        on_hold = canonical({"receipt": receipt, "use": "on hold"})
        yield Record(f"hold:{receipt}", "use-on-hold", on_hold)
        if all(standing.state is State.REFUSED for standing in entries.values()):
            resume_body = canonical({"receipt": receipt, "use": "as before"})
            yield Record(f"hold-ended:{receipt}", "use-resumed", resume_body)


def exemption_records(session: Session) -> Iterator[tuple[datetime, Record]]:
    """Decisions by an exception of GDPR Art. 17(3), one for all revocations of a receipt that it was taken about.

    Who decided and why stays in the ledger: the reason is free text.
    """
    query = (
        select(
            RevocationRow.receipt,
            ExemptionRow.at,
            ExemptionRow.article,
            ExemptionRow.code,
            ExemptionRow.keeps,
            func.count(),
        )
        .join(RevocationRow, RevocationRow.id == ExemptionRow.revocation)
        .group_by(RevocationRow.receipt, ExemptionRow.at, ExemptionRow.article, ExemptionRow.code, ExemptionRow.keeps)
        # The order in which they were taken: a decision keeps its number when others follow.
        .order_by(func.min(ExemptionRow.id))
    )
    numbers = Counter[str]()

    for receipt, at, article, code, keeps, count in session.execute(query):
        numbers[receipt] += 1
        document: dict[str, Json] = {"article": article, "at": time_text(at), "code": code, "keeps": keeps}
        document |= {"receipt": receipt, "revocations": count}
        yield at, Record(f"exempted:{receipt}:{numbers[receipt]}", "exempted", canonical(document))


def access_records(session: Session) -> Iterator[tuple[datetime, Record]]:
    """Start and end of each campaign's access to its patients, and how much was deleted at the end."""
    times = Counter[tuple[str, int]]()

    for row in session.scalars(select(AccessRow).where(AccessRow.campaign > 0).order_by(AccessRow.id)).all():
        document: dict[str, Json] = {"access": row.what, "campaign": row.campaign}
        document |= {"patients": row.patients} if row.what == "opened" else {"purged": row.purged}
        times[row.what, row.campaign] += 1
        # The first access keeps its old name, so that entries of earlier releases are recognized.
        again = f":{times[row.what, row.campaign]}" if times[row.what, row.campaign] > 1 else ""
        yield row.at, Record(f"access-{row.what}:{row.campaign}{again}", f"access-{row.what}", canonical(document))


def holding_records(session: Session) -> Iterator[tuple[datetime, Record]]:
    """When each model version was kept, and when it was deleted."""
    for row in session.scalars(select(HoldingRow).order_by(HoldingRow.received, HoldingRow.digest)).all():
        for kind, at in (("version-kept", row.received), ("purged", row.purged)):
            if at is not None:
                document = canonical({"at": time_text(at), "kind": kind, "version": row.name, "weights": row.digest})
                yield at, Record(f"{kind}:{row.digest}:{time_text(at)}", kind, document)


def _second_after(moment: datetime) -> datetime:
    return moment + timedelta(seconds=1)
