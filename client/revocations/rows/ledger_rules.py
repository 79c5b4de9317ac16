"""Pure rules of the ledger: what a new request adds, and what a full disk has left of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from client.revocations.look_alikes.alike import DOUBTFUL
from client.revocations.revocation import LIFTED, Request, RevocationStatus, Source, State
from client.revocations.tombstones.tombstone import Tombstone
from common.disk import AGAIN
from common.errors import DiskFullError


def covers(standing: RevocationStatus, request: Request) -> bool:
    """Whether a request adds nothing to an existing revocation."""
    if _same(standing.source, request.source):
        return True
    if standing.state in LIFTED or (standing.state is State.ON_HOLD and not request.hold):
        return False
    # An opt-out can be taken back and may leave the model unchanged: a wider request is recorded beside it.
    if standing.kind == "opt-out" and request.kind != "opt-out":
        return False
    # A revocation restored from a tombstone knows less than the request itself, when that arrives again.
    return standing.source.kind != "restored" and standing.scope in ("all", request.scope)


def awaits_person(revocations: Collection[RevocationStatus]) -> bool:
    """Whether a person must still say which patient an identifier means."""
    return any(s.state is State.ON_HOLD and s.reason == DOUBTFUL for s in revocations)


def half_recorded(err: DiskFullError, stops: Sequence[Tombstone], *, stopped: bool) -> DiskFullError:
    """The error for a transaction that a full disk has interrupted: the tombstones come before the database."""
    patients = len({stone.pseudonym for stone in stops})
    if not stops:
        return err
    if not stopped:
        problem = f"{err.problem}; nothing was recorded, and use of {patients} patient(s) goes on"
        return DiskFullError(problem, where=err.where, remedy=AGAIN)

    receipts = ", ".join(sorted({stone.receipt for stone in stops}))
    problem = (
        f"{err.problem}; use of {patients} patient(s) has stopped, as their tombstones are written, but the database "
        f"lacks the revocation and the vault its form: receipt {receipts}"
    )
    remedy = "free space there, then do the same again: it gets the same receipt"

    return DiskFullError(problem, where=err.where, remedy=remedy)


def _same(one: Source, other: Source) -> bool:
    return (one.kind, one.id, one.version) == (other.kind, other.id, other.version)
