"""What notices count; the catalogues beside this file translate it."""

from __future__ import annotations

OVERDUE = "Overdue answers"
SOON = "Answers due within %(days)s days"
APPROVE = "To be approved by a second person"
DOUBTFUL = "Doubtful: somebody must say who is meant"
FAILED = "A campaign has failed and will be tried again"
HELD = "On hold"

SIGNATURES = "Attestations that lack a signature"
WAITING = "Campaigns that wait"
DECIDE = "Hospitals for which somebody must decide"
GONE = "Hospitals without recent contact"
SUSPENDED = "Suspended hospitals"
RECALL = "Versions out of use, of which exported copies remain"
HOSPITALS_OVERDUE = "Hospitals with overdue answers"
HOSPITALS_SOON = "Hospitals with answers due within %(days)s days"

WORDS = frozenset(
    {
        OVERDUE,
        SOON,
        APPROVE,
        DOUBTFUL,
        FAILED,
        HELD,
        SIGNATURES,
        WAITING,
        DECIDE,
        GONE,
        SUSPENDED,
        RECALL,
        HOSPITALS_OVERDUE,
        HOSPITALS_SOON,
    }
)
