"""Records a revocation from the consent office. Its form is in the vault before the ledger has the revocation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

from client.consent.kinds import Kind
from client.intake.permission import Permissions
from client.revocations.ledger import Ledger
from client.revocations.revocation import Receipt, Request, Scope, Source
from client.revocations.vault import Vault
from client.revocations.workflow.interrupted import begun_before
from common.errors import InputError, RefusedError


@dataclass(frozen=True, slots=True)
class Form:
    """What the office states about a revocation; its texts must identify nobody.

    Attributes:
        received: when the hospital received it.
        policies: codes of the withdrawn consent policies; empty: all.
        kind: kind of request.
        legal_basis: empty: the usual one for the kind.
        steward: name of the recording person; the approver must be another person.
        identity: what that name is bound to, see `common.platform.actor`.
        document: the signed form; empty: none.
    """

    received: datetime
    scope: Scope = "all"
    policies: tuple[str, ...] = ()
    kind: Kind = "withdrawal"
    legal_basis: str = ""
    requester: str = "patient"
    identity_check: str = "not recorded"
    steward: str = ""
    identity: str = ""
    document: bytes = field(default=b"", repr=False)


def hand_in(
    ledger: Ledger,
    permissions: Permissions | None,
    vault: Vault,
    patients: Collection[str],
    form: Form,
    receipt: str,
    *,
    also_unknown: bool = False,
) -> Receipt:
    """Record a revocation of one patient or of a list; everything is on the disk when this returns.

    Args:
        permissions: gives the consents on file, if the site has any.
        receipt: a new number; an interrupted earlier attempt keeps its own.

    Raises:
        DiskFullError: says what was recorded; the same request again gets the same receipt.
        InputError: nothing is recorded: unknown patients, a date in the future or before the first consent, a file.
        RefusedError: a second person must approve, and the recording person is unknown.
    """
    now = ledger.clock()
    if form.received > now:
        raise InputError("is in the future", where="received", remedy="give the date of receipt")
    # A second person can only be told from the first one by name.
    if ledger.two_person and not form.steward.strip():
        raise RefusedError("a second person must approve here: give the name of the recording person")
    if permissions is not None:
        permissions.check_after_consent(patients, form.received)
    request = Request(
        source=Source("cli", receipt),
        receipt=receipt,
        received=form.received,
        scope=form.scope,
        policies=form.policies,
        kind=form.kind,
        legal_basis=form.legal_basis,
        requester=form.requester,
        identity_check=form.identity_check,
        steward=form.steward,
        identity=form.identity,
    )
    recorded_receipt = ""

    try:
        with ledger.writing() as writing:
            request = begun_before(ledger, writing, request, patients)
            receipt = request.receipt
            if form.document:
                request = replace(request, source=replace(request.source, digest=vault.keep(receipt, form.document)))
            result = ledger.add(writing, request, patients, also_unknown=also_unknown)

        recorded_receipt = result.receipt
        return result
    finally:
        # Nothing refers to the form if all patients had revoked before or nothing was recorded.
        if form.document and recorded_receipt == receipt:
            vault.settle(receipt)
        elif form.document:
            vault.erase(receipt)
