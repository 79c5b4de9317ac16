"""Exceptions of GDPR Art. 17(3) as decisions: which one, by which reason, who decided, when, in whole or in part.

Art. 17(3) limits erasure, not the withdrawal of consent and not an objection: only a request for erasure can be refused
in whole by it. The rest of a request that is refused in part goes its way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from client.revocations.ledger import Ledger
from client.revocations.revocation import LIFTED, RevocationStatus
from client.revocations.rows.ledger_rows import chunks, standing_of, table_of
from client.revocations.rows.ledger_tables import ExemptionRow, RevocationRow
from common.errors import InputError, RefusedError
from common.platform.actor import Actor

Article = Literal["17(3)(a)", "17(3)(b)", "17(3)(c)", "17(3)(d)", "17(3)(e)"]
CODES: Mapping[str, tuple[Article, str]] = MappingProxyType(
    {
        "expression": ("17(3)(a)", "Freedom of expression and information"),
        "legal-obligation": ("17(3)(b)", "A law requires the processing"),
        "public-task": ("17(3)(b)", "A task in the public interest, or official authority"),
        "public-health": ("17(3)(c)", "Public interest in public health"),
        "archiving": ("17(3)(d)", "Archiving in the public interest, which erasure would seriously impair"),
        "research": ("17(3)(d)", "Research, which erasure would make impossible or seriously impair"),
        "statistics": ("17(3)(d)", "Statistics, which erasure would make impossible or seriously impair"),
        "legal-claims": ("17(3)(e)", "Legal claims are made, pursued or defended"),
    }
)
"""Reason codes: the exception that each belongs to, and what it says."""
KEEPS: Mapping[str, str] = MappingProxyType(
    {
        "everything": "Everything: the request is refused",
        "locked-copy": "The copy of an earlier model version that is kept under lock",
        "published-results": "Results that were published",
        "study-documents": "Documents of the study that must be kept",
        "images-and-reports": "Images and reports, for another purpose than training",
    }
)
"""What is not erased. `everything` refuses the request in whole."""
WHOLE = "everything"
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Exemption:
    """What an exception lets the hospital keep.

    Raises:
        InputError: an unknown code.
    """

    code: str
    keeps: str = WHOLE

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise InputError("no such reason code", where="--code", remedy=f"one of {', '.join(CODES)}")
        if self.keeps not in KEEPS:
            raise InputError("unknown", where="--keeps", remedy=f"one of {', '.join(KEEPS)}")

    @property
    def article(self) -> Article:
        """The exception of the GDPR."""
        return CODES[self.code][0]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is erased."""
        return self.keeps == WHOLE


@dataclass(frozen=True, slots=True)
class Exempted:
    """A decision by an exception, as recorded for one revocation."""

    exemption: Exemption
    at: datetime
    actor: str
    identity: str
    reason: str


def check_whole(revocations: Iterable[RevocationStatus]) -> None:
    """Raises a `RefusedError` if Art. 17(3) cannot refuse one of these in whole."""
    for kind in sorted({one.kind for one in revocations} - {"erasure"}):
        raise RefusedError(
            f"Art. 17(3) limits erasure, and a request of kind {kind} cannot be refused in whole by it: keep a part, "
            "or refuse on another ground"
        )


def record(
    session: Session,
    exemption: Exemption,
    revocations: Collection[RevocationStatus],
    actor: Actor,
    reason: str,
    now: datetime,
) -> None:
    """Add the decision to each revocation, within the caller's transaction.

    Raises:
        RefusedError: no reason or name, or one too long.
    """
    if not reason.strip() or not actor.name.strip() or len(reason) > _MOST:
        raise RefusedError(f"an exception needs a name, and a reason of at most {_MOST} characters")
    common = {
        "at": now,
        "article": exemption.article,
        "code": exemption.code,
        "keeps": exemption.keeps,
        "actor": actor.name,
        "identity": actor.identity,
        "reason": reason.strip(),
    }
    session.execute(insert(table_of(ExemptionRow)), [{"revocation": one.number, **common} for one in revocations])


def keep_in_part(ledger: Ledger, receipt: str, actor: Actor, reason: str, exemption: Exemption) -> int:
    """Record that a request is refused in part; everything else about it stays as it is. Returns the number.

    Raises:
        InputError: no such receipt, or the exemption is whole.
        RefusedError: no reason or name, or the request was refused or taken back.
    """
    if exemption.is_whole:
        raise InputError("names no part", where="--keeps", remedy="name what is kept")
    with ledger.writing() as writing:
        revocations = standing_of(writing.session, RevocationRow.receipt == receipt)
        if not revocations:
            raise InputError("no such receipt", where=str(ledger.folder.root), remedy="fedforget-site revocations list")
        answered = [one for one in revocations if one.state not in LIFTED]
        if not answered:
            raise RefusedError("the request was refused or taken back: there is no part to keep")
        record(writing.session, exemption, answered, actor, reason, ledger.clock())

    return len(answered)


def exemptions_of(session: Session, numbers: Collection[int]) -> dict[int, Sequence[Exempted]]:
    """The decisions about some revocations, by their number, in the order in which they were taken."""
    decisions = defaultdict[int, list[Exempted]](list)
    for some in chunks([str(number) for number in numbers]):
        query = select(ExemptionRow).where(ExemptionRow.revocation.in_(map(int, some))).order_by(ExemptionRow.id)
        for row in session.scalars(query):
            exemption = Exemption(row.code, row.keeps)
            decisions[row.revocation].append(Exempted(exemption, row.at, row.actor, row.identity, row.reason))

    return dict(decisions)


def as_plain(exempted: Exempted) -> dict[str, object]:
    """A decision as JSON."""
    exemption = exempted.exemption
    return {
        "exception": f"GDPR Art. {exemption.article}",
        "code": exemption.code,
        "extent": "whole" if exemption.is_whole else "part",
        "keeps": exemption.keeps,
        "decided": exempted.at,
        "decided_by": exempted.actor,
        "identity": exempted.identity,
        "reason": exempted.reason,
    }
