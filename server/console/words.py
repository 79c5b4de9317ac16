"""Words for states and kinds, with a sign for each: good, wait, bad, off."""

from __future__ import annotations

CAMPAIGN_KINDS = {"training": "Training", "unlearning": "Unlearning", "retraining": "Retraining"}
CAMPAIGN_STATES = {
    "planned": ("wait", "Planned"),
    "collecting": ("wait", "Asks the hospitals"),
    "unlearning": ("wait", "Unlearns"),
    "aggregating": ("wait", "Combines"),
    "retaining": ("wait", "Retention rounds"),
    "evaluating": ("wait", "Audits"),
    "deciding": ("wait", "Decides"),
    "retraining": ("wait", "Trains"),
    "published": ("good", "Published"),
    "rejected": ("bad", "Rejected"),
    "inconclusive": ("bad", "Inconclusive"),
    "cancelled": ("off", "Cancelled"),
    "failed": ("bad", "Failed"),
}
SITE_STATES = {"active": ("good", "Takes part"), "suspended": ("bad", "Suspended"), "revoked": ("off", "Excluded")}
VERSION_STATES = {
    "active": ("good", "In use"),
    "superseded": ("off", "Replaced"),
    "quarantined": ("wait", "Quarantined"),
    "withdrawn": ("bad", "Withdrawn"),
}
OUTCOMES = {
    "exact": ("good", "Exact: trained again without the patients"),
    "accepted": ("good", "Accepted by its own audit"),
    "accepted_qualified": ("good", "Accepted by a qualified procedure"),
    "rejected": ("bad", "Rejected"),
    "inconclusive": ("bad", "Inconclusive"),
}
