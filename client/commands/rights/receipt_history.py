"""What happened to a receipt, as `revocations show` prints it: its steps, and exceptions of GDPR Art. 17(3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.revocations.ledger import Ledger


def steps_of(ledger: Ledger, receipt: str) -> list[dict[str, Any]]:
    """Every step once, with the number of patients who took it at that time."""
    from client.membership.steward import signature_holds, steward_keys  # noqa: PLC0415
    from client.revocations.revocation import Event  # noqa: PLC0415
    from common.platform.actor import in_words  # noqa: PLC0415 - with the ledger

    events_by_step: dict[tuple[object, ...], list[Event]] = {}
    for event in ledger.history(receipt):
        same = (event.at, event.state, event.actor, event.identity, event.reason, event.due, event.campaign)
        events_by_step.setdefault(same, []).append(event)

    steps = []
    for events in events_by_step.values():
        event = events[0]
        signature_status = None
        if event.signature:
            holds = signature_holds(event.signature, receipt, steward_keys(ledger.folder))
            signature_status = "signature holds" if holds else "signature does not hold by the keys of site.toml"

        by_software = event.actor == "fedforget" and not event.identity
        identity = "software" if by_software else in_words(event.identity)
        steps.append(
            {
                "at": event.at,
                "state": str(event.state),
                "patients": len({one.revocation for one in events}),
                "by": event.actor,
                "identity": f"{identity}; {signature_status}" if signature_status else identity,
                "reason": event.reason,
                "due": event.due,
                "campaign": event.campaign,
                "signed": signature_status,
            }
        )

    return steps


def exceptions_of(ledger: Ledger, receipt: str) -> list[dict[str, Any]]:
    """Every decision by an exception once, however many patients it is about."""
    from client.revocations.exemptions import as_plain, exemptions_of  # noqa: PLC0415 - with the ledger
    from common.platform.sql import reading  # noqa: PLC0415

    with reading(ledger.engine) as session:
        decisions = exemptions_of(session, [standing.number for standing in ledger.standing(receipt)])

    return [as_plain(one) for one in dict.fromkeys(one for some in decisions.values() for one in some)]
