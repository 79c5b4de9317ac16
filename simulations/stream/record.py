"""The schema of `stream.json`, the source of all tables and charts. It holds counts and figures, and no identifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import ResultError
from common.files import write_text
from simulations.result import Branch, BranchMia, Cost, DecisionResult, GroupMetrics

RECORD_FILE = "stream.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ForgottenCohort(_Strict):
    """Those whom one campaign forgot, as a later model treats them.

    `rank` is the mean share of never-seen patients of the same hospital, weighted to the labels of all who were
    forgotten there, whose loss is higher than a patient's: its mean over everybody is the loss AUC. Without patients
    whose label no never-seen patient has.
    """

    campaign: int
    patients: int
    rank: dict[Branch, float]


class Audited(_Strict):
    """A model beside held-out patients: test patients of the hospitals that stay, and all who were forgotten so far."""

    digest: str
    test: GroupMetrics
    forgotten: GroupMetrics
    mia: dict[Branch, BranchMia]
    cohorts: tuple[ForgottenCohort, ...] = ()

    def cohort(self, campaign: int) -> ForgottenCohort | None:
        """Those whom a campaign forgot; None if no never-seen patient has a label of theirs."""
        return next((one for one in self.cohorts if one.campaign == campaign), None)


class CampaignRecord(_Strict):
    """One campaign of the stream, and the model after it."""

    number: int
    day: float
    """Since the start."""
    reason: str
    days_left: float
    """Until the first due date."""
    patients: dict[str, int]
    """Who revoked, by hospital."""
    leaving: str = ""
    how: Literal["unlearned", "retrained"]
    """`retrained` where a hospital has nobody left: a model is trained anew, as the coordinator does."""
    decision: DecisionResult | None
    """By the campaign's own audit or, in a stream that qualifies, by the ladder; None after a retraining.

    The stream continues in any case.
    """
    cost: Cost
    """Audits are not counted."""
    retraining_units: float
    """Forward units of retraining instead, reckoned from the first training by the studies that are left."""
    before: ForgottenCohort | None
    """Those whom this campaign forgets, as the model before treats them."""
    audited: Audited
    seconds: float


class Retrained(_Strict):
    """A model trained from the first one's initial weights, without all who were forgotten so far: the control."""

    after: int
    """Number of the campaign."""
    audited: Audited
    cost: Cost
    rounds: int


class QualificationRecord(_Strict):
    """The qualification of the original model, before anybody revoked."""

    qualified: bool
    rehearsals: int
    findings: tuple[str, ...]
    """Why it does not qualify, or why nothing was rehearsed."""
    cost: Cost
    """Of the rehearsals; of those since the last interruption, if there was one."""


class SeedRecord(_Strict):
    """One stream. `original` is audited on all who are going to revoke: how much there is to forget."""

    seed: int
    planned: int
    """Campaigns."""
    training: dict[str, int]
    """Patients that the original was trained on, by hospital."""
    staying: tuple[str, ...]
    original: Audited
    original_cost: Cost
    original_rounds: int
    folds_cost: Cost | None = None
    """Of the fold models, trained once beside the original; None in records of earlier versions."""
    qualification: QualificationRecord | None = None
    """None where the stream does without."""
    campaigns: tuple[CampaignRecord, ...] = ()
    retrained: tuple[Retrained, ...] = ()

    @property
    def models(self) -> list[Audited]:
        """The original, then the model after each campaign, at that campaign's number."""
        return [self.original, *(campaign.audited for campaign in self.campaigns)]

    @property
    def finished(self) -> bool:
        """Whether all campaigns were run, and the model at the end was retrained."""
        return len(self.campaigns) == self.planned and self.at_end is not None

    @property
    def at_end(self) -> Retrained | None:
        """The control after the last campaign."""
        return next((one for one in self.retrained if one.after == self.planned), None)


class StreamRecord(_Strict):
    """The whole file."""

    schema_version: Literal[1] = 1
    command: str = ""
    """By which it was last run."""
    config: dict[str, Any]
    versions: dict[str, str]
    seeds: tuple[SeedRecord, ...] = ()

    def of(self, seed: int) -> SeedRecord | None:
        """What is there of a seed."""
        return next((one for one in self.seeds if one.seed == seed), None)

    def having(self, seed: SeedRecord) -> StreamRecord:
        """With the newest state of one seed."""
        others = [one for one in self.seeds if one.seed != seed.seed]
        return self.model_copy(update={"seeds": tuple(sorted([*others, seed], key=lambda one: one.seed))})


def write_record(out: Path, record: StreamRecord) -> None:
    """Whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(out / RECORD_FILE, record.model_dump_json(indent=1) + "\n")


def read_record(out: Path) -> StreamRecord:
    """Read it.

    Raises:
        ResultError: missing, no JSON, or of another version.
    """
    path = out / RECORD_FILE

    try:
        return StreamRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as err:
        raise ResultError(
            f"cannot be read: {err.strerror}", where=str(path), remedy="run fedforget-sim stream"
        ) from None
    except (ValueError, ValidationError):
        raise ResultError("no stream of this version", where=str(path), remedy="choose another --out") from None
