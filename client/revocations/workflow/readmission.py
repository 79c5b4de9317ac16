"""Patients take part again: from the next campaign, by a form of their own, as if they were new."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from client.revocations.access import open_campaigns
from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import (
    LIFTED,
    RevocationStatus,
    State,
)
from client.revocations.rows.ledger_rows import of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationRow
from client.revocations.workflow.steps import decided, lift, of_receipt, take_step
from client.revocations.workflow.transitions import TRANSITIONS
from common.errors import InputError, RefusedError
from common.platform.actor import Actor


def readmit(
    ledger: Ledger,
    writing: Writing,
    receipt: str,
    actor: Actor,
    reason: str,
    *,
    form: tuple[str, str],
    patients: Collection[str] | None = None,
    signature: str = "",
) -> tuple[int, int]:
    """Let a receipt's patients take part again from the next campaign, as if they were new.

    What the model has forgotten stays forgotten, retired weights stay retired, and deleted data must be imported again.

    Args:
        form: name in the vault of the form by which they take part again, and the commitment to it.
        patients: pseudonyms of those who do; None: the only patient of the receipt.
        signature: the steward's signature, if `actor` is bound to a key.

    Returns:
        The number of revocations, and of patients whom another revocation still stops.

    Raises:
        InputError: no such receipt, or it has several patients, or not all of `patients`.
        RefusedError: no reason or name, nothing can be taken back, or a campaign may be running.
    """
    if not actor.name.strip():
        raise RefusedError("a readmission needs the name of the person who decides")
    if not reason.strip():
        raise RefusedError("a readmission needs a reason")
    # A campaign that is open may be making the model forget these very patients.
    if running := sorted(open_campaigns(writing.session)):
        raise RefusedError(f"campaign {running[0]} is reading patients who have revoked: readmit after its end")
    can = (state for state in State if State.READMITTED in TRANSITIONS[state])
    revocations = _chosen(decided(writing, of_receipt(ledger, writing, receipt, *can)), patients)
    reason_text = f"{reason.strip()} (form {form[0]}, commitment {form[1]})"
    take_step(ledger, writing, revocations, State.READMITTED, actor=actor, reason=reason_text, signature=signature)
    lift(ledger, writing, revocations)
    others = of_patients(writing.session, {s.pseudonym for s in revocations})

    return len(revocations), len({s.pseudonym for s in others if s.state not in LIFTED})


def everybody_of(writing: Writing, receipt: str) -> frozenset[str]:
    """Pseudonyms of all patients of a receipt whose revocation can be taken back."""
    revocations = standing_of(writing.session, RevocationRow.receipt == receipt)
    return frozenset(s.pseudonym for s in revocations if State.READMITTED in TRANSITIONS[s.state])


def _chosen(revocations: Sequence[RevocationStatus], patients: Collection[str] | None) -> list[RevocationStatus]:
    """The revocations of `patients`: a list may name many, of whom one takes part again."""
    there = {s.pseudonym for s in revocations}
    if patients is None:
        if len(there) > 1:
            raise InputError(
                f"the receipt stands for {len(there)} patients",
                remedy="give those who take part again by --patient-file, or --everybody",
            )
        return [*revocations]

    missing = len(set(patients) - there)
    if missing or not patients:
        raise InputError(
            f"{missing} of {len(set(patients))} patients have no revocation under this receipt that can be taken back",
            remedy="check the list",
        )

    return [s for s in revocations if s.pseudonym in patients]
