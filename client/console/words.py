"""States, kinds and sources in words, and how urgent a state is. The catalogues translate them."""

from __future__ import annotations

from client.revocations.revocation import State
from common.learning.records import Subset

STATES: dict[State, tuple[str, str]] = {
    State.RECEIVED: ("wait", "Received"),
    State.ON_HOLD: ("wait", "On hold"),
    State.AWAITING_APPROVAL: ("wait", "Waits for approval"),
    State.PENDING: ("wait", "Waits for a campaign"),
    State.IN_CAMPAIGN: ("wait", "The model is forgetting"),
    State.ESCALATED: ("bad", "A campaign failed and will be tried again"),
    State.EXCLUDED: ("good", "Excluded before training"),
    State.EVALUATION_ONLY: ("good", "Never learned from"),
    State.UNLEARNED: ("good", "Forgotten by the model"),
    State.RETRAINED: ("good", "Forgotten by retraining"),
    State.REFUSED: ("off", "Refused"),
    State.USE_STOPPED: ("good", "Use has stopped"),
    State.READMITTED: ("off", "Takes part again"),
}
"""Kind of badge and name of each state."""
KINDS = {
    "withdrawal": "Withdrawal of consent",
    "objection": "Objection",
    "erasure": "Request for erasure",
    "opt-out": "Opt-out of secondary use",
}
SOURCES = {
    "cli": "Consent office",
    "grpc": "Hospital system",
    "fhir": "FHIR",
    "list": "Signed list",
    "link": "Another hospital",
    "restored": "Restored from the tombstones",
}
SCOPES = {"all": "Images and reports", "images": "Images", "reports": "Reports"}
SETS = {
    Subset.TRAIN: "Training: the model learns from them",
    Subset.VALIDATION: "Validation: they say when training ends",
    Subset.CALIBRATION: "Never seen, for calibration: they say when unlearning ends",
    Subset.AUDIT: "Never seen, for the audit: forgotten patients are compared with them",
    Subset.TEST: "Test: they show how useful the model is",
}
"""The sets of a hospital's patients and what each is for."""
