"""The parts of a statement about an unlearning: method, figures, replays, frozen encoders, decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import EvidenceError
from common.evidence.outcomes.grounds import Grounds, Outcome, check_outcome
from common.evidence.schema import (
    check_decimal,
    check_digest,
    check_sorted,
    check_text,
    check_time,
)

Party = Literal["site", "server", "evaluator"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of the new model: its name and SHA-256."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_digest(self.sha256, "sha256")


@dataclass(frozen=True, slots=True)
class Method:
    """How the model was unlearned: method, digest of the settings, seed."""

    name: str
    config: str
    seed: int

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_digest(self.config, "config")


@dataclass(frozen=True, slots=True)
class Retention:
    """Rounds of ordinary training after unlearning, and the sites that took part (sorted)."""

    rounds: int
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        check_sorted(self.sites, "sites")
        if self.rounds < 0 or (self.rounds > 0) != bool(self.sites):
            raise EvidenceError("retention rounds need sites, and sites need rounds")


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure with its interval: decimal strings, `level` such as `0.90`, `n` patients, and who measured it."""

    name: str
    value: str
    low: str
    high: str
    level: str
    n: int
    reported_by: Party

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        for name in ("value", "low", "high", "level"):
            check_decimal(getattr(self, name), name)
        if float(self.low) > float(self.high) or not 0 < float(self.level) < 1 or self.n < 1:
            raise EvidenceError("the interval is reversed, the level is outside (0, 1), or there are no patients")


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """SHA-256 of all figures that a site reported for the new model; the site checks it before it signs."""

    site: str
    sha256: str

    def __post_init__(self) -> None:
        check_text(self.site, "site")
        check_digest(self.sha256, "sha256")


@dataclass(frozen=True, slots=True)
class Replay:
    """One site's unlearning, in enough detail that someone on site can repeat it and compare.

    Attributes:
        site: the hospital.
        parent: digest of the weights that the campaign started from.
        received: digest of the weights that the site started from; it differs from `parent` if sites unlearn in turn.
        seed: seed of the request.
        cohort: salted commitment to the patients and studies involved; the salt stays at the site.
        unlearned: digest of the weights that the site returned.
        norm: L2 norm of the step from `received` to `unlearned`, a decimal.
    """

    site: str
    parent: str
    received: str
    seed: int
    cohort: str
    unlearned: str
    norm: str

    def __post_init__(self) -> None:
        check_text(self.site, "site")
        for name in ("parent", "received", "cohort", "unlearned"):
            check_digest(getattr(self, name), name)
        check_decimal(self.norm, "norm")


@dataclass(frozen=True, slots=True)
class FrozenEncoders:
    """What exact forgetting rests on beside the training itself: parts that no patient of the federation was in.

    Attributes:
        image_encoder, text_encoder: digests of the encoders, the same from the first training on.
        initial: digest of the weights that the trained part started from, then and now.
        since: id of the campaign of the first training.
        declared_by: who declares that the encoders were not pretrained on patients of this federation; whoever signs
            the statement signs that they declared it.
    """

    image_encoder: str
    text_encoder: str
    initial: str
    since: str
    declared_by: str

    def __post_init__(self) -> None:
        for name in ("image_encoder", "text_encoder", "initial"):
            check_digest(getattr(self, name), name)
        check_text(self.since, "since")
        check_text(self.declared_by, "declared_by")

    @property
    def text(self) -> str:
        """In one line."""
        return (
            f"both encoders are frozen since campaign {self.since} (image {self.image_encoder}, text "
            f"{self.text_encoder}); {self.declared_by} declares that they were not pretrained on patients of this "
            "federation"
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome and its reasons in plain words.

    Attributes:
        outcome: one of the five names.
        reasons: never empty.
        margin: half the width of the accepted band around .5 in the campaign's own audit; empty if not stated.
        grounds: what the outcome rests on; None in statements of earlier versions, which knew no other grounds than
            the campaign's own audit or a retraining.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    margin: str = ""
    grounds: Grounds | None = None

    def __post_init__(self) -> None:
        check_outcome(self.outcome, self.grounds)
        if self.margin:
            check_decimal(self.margin, "margin")
        if not self.reasons:
            raise EvidenceError("the decision has no reason")


@dataclass(frozen=True, slots=True)
class Overruled:
    """That a person published the model although a verdict or a veto had stopped it.

    Attributes:
        at: UTC time of the decision.
        reason: the person's own words.
        findings: what had stopped it; never empty.
    """

    at: str
    reason: str
    findings: tuple[str, ...]

    def __post_init__(self) -> None:
        check_time(self.at, "at")
        check_text(self.reason, "reason")
        if not self.findings:
            raise EvidenceError("findings is empty")

    @property
    def text(self) -> str:
        """In one line."""
        return f"OVERRULED BY A PERSON on {self.at}: {self.reason} (stopped before by: {'; '.join(self.findings)})"
