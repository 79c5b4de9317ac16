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
QUALIFICATION_STATES = {
    "open": ("wait", "Rehearses"),
    "stopped": ("off", "Stopped"),
    "qualified": ("good", "Qualified"),
    "not qualified": ("bad", "Did not qualify"),
}
CRITERIA = {
    "Q1": "the forgotten stand where never-seen patients do",
    "Q2": "few of them stand out, one by one",
    "Q3": "the original model remembers, so that something could be seen to go",
    "Q4": "the model stays as useful",
    "Q5": "they stand nearer to models without them than to the original",
}
"""What each part of a qualification's rule asks; see `docs/explanation/qualification.md`."""
