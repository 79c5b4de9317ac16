"""Findings: the result of each check, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Result of one check."""

    HOLDS = "holds"
    FAILS = "does not hold"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its subject, the outcome, and the reason."""

    subject: str
    outcome: Outcome
    reason: str


def holds(subject: str, reason: str) -> Finding:
    """The check was made, and its subject holds."""
    return Finding(subject, Outcome.HOLDS, reason)


def fails(subject: str, reason: object) -> Finding:
    """The check was made, and its subject does not hold."""
    return Finding(subject, Outcome.FAILS, str(reason))


def not_checked(subject: str, reason: str) -> Finding:
    """The check could not be made."""
    return Finding(subject, Outcome.NOT_CHECKED, reason)
