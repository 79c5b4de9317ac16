"""Ends holds that patients did not ask for: an unclear consent became clear, or a person said who is meant."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import (
    RevocationStatus,
    State,
    alike_receipt,
    is_doubt,
)
from client.revocations.rows.covered import forget_doubts
from client.revocations.rows.ledger_rows import chunks, of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationRow
from client.revocations.tombstones.tombstone import Tombstone
from client.revocations.workflow.steps import SOFTWARE_ACTOR, take_step
from common.platform.actor import Actor


class PersonDecision(NamedTuple):
    """The person who decides, and the reason."""

    actor: Actor
    reason: str


def end_holds(ledger: Ledger, writing: Writing, pseudonym: str, reason: str) -> int:
    """End the holds caused by the unclear consents of a patient, as these have become clear; returns their number.

    The patient, and those who were on hold because their identifiers look like the patient's, may be used again, unless
    a revocation stops it.
    """
    own = [s for s in of_patients(writing.session, [pseudonym]) if is_doubt(s.receipt)]
    alike = {alike_receipt(s.receipt, pseudonym): s.receipt for s in own}
    of_others = [s for some in chunks(alike) for s in standing_of(writing.session, RevocationRow.receipt.in_(some))]
    # Once a person has said who is meant, these patients are on hold under the receipt of the consent itself.
    alike_patients = {alike[s.receipt] for s in of_others}
    of_others += [
        s
        for some in chunks(alike_patients)
        for s in standing_of(writing.session, RevocationRow.receipt.in_(some))
        if s.pseudonym != pseudonym
    ]
    holds = [s for s in (*own, *of_others) if s.state is State.ON_HOLD]
    take_step(ledger, writing, holds, State.REFUSED, actor=SOFTWARE_ACTOR, reason=reason)
    writing.lifts += [Tombstone("lift", s.pseudonym, s.receipt, s.received) for s in holds]
    writing.lifts += forget_doubts(writing.session, pseudonym)

    return len(holds)


def end_alike(
    ledger: Ledger,
    writing: Writing,
    asked: RevocationStatus,
    candidates: Collection[RevocationStatus],
    meant: Collection[int],
    said: PersonDecision,
) -> None:
    """End the holds on all candidates, after a person has said whom the identifier of `asked` means.

    Args:
        meant: numbers of the `candidates` who are meant and whose revocation is already recorded.
    """
    for one in candidates:
        why = "is meant" if one.number in meant else "is not meant"
        take_step(ledger, writing, [one], State.REFUSED, actor=said.actor, reason=f"{why}: {said.reason}")

    writing.lifts += [Tombstone("lift", one.pseudonym, one.receipt, one.received) for one in candidates]
    now = [s for s in of_patients(writing.session, [asked.pseudonym]) if s.number == asked.number]
    cohort = ledger.subsets()
    # A patient of the cohort is no stranger, whatever was decided about a look-alike. An unclear consent excludes
    # nobody: its own hold ends when the consent becomes clear.
    waits = [s for s in now if s.state is State.ON_HOLD and s.pseudonym not in cohort and not is_doubt(asked.receipt)]
    who = "another spelling of a patient here" if meant else "nobody here"
    take_step(ledger, writing, waits, State.EXCLUDED, actor=said.actor, reason=f"{who}: {said.reason}")
