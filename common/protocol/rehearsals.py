"""Messages of rehearsals, which travel in waves: several candidates in one message, each with a key of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.evaluation.figures import Count
from common.learning.evaluation.qualification.figures import SiteRehearsals
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.protocol.messages import Amount, Body, Digest, Name

REHEARSE = "train.rehearse"
"""Type of the Flower message."""
MOST_IN_A_MESSAGE = 100
MOST_REHEARSALS = 100_000
Number = Annotated[int, Field(ge=0, lt=MOST_REHEARSALS)]
Step = Literal["unlearn", "retain", "score", "close"]


class Rehearsal(Body):
    """One rehearsal: `site` draws so many of its training patients who have not revoked."""

    number: Number
    site: Name
    patients: int = Field(ge=1, le=1000)
    seed: int

    @property
    def key(self) -> str:
        """Name of its model among those of one message."""
        return f"rehearsal.{self.number}"


class RehearseRequest(Body):
    """One step of a wave. `unlearn` carries the model in use, `retain` and `score` the wave's candidates, `close` none.

    `close` asks for the report on all rehearsals, after which the site deletes what it kept of them.
    """

    qualification: Digest
    """SHA-256 of what was registered before the first rehearsal."""
    version: Digest
    """Of the model in use that this wave begins from."""
    step: Step
    round: int = Field(ge=0, le=1000)
    """Retention rounds that the candidates have been through."""
    rehearsals: tuple[Rehearsal, ...] = Field(max_length=MOST_REHEARSALS)
    unlearn: UnlearnConfig
    train: TrainConfig
    epochs: int
    seed: int
    plan: QualificationPlan
    chosen: dict[Number, int] = Field(default_factory=dict, max_length=MOST_REHEARSALS)
    """For `close`: the retention round that was kept of each rehearsal; those that are missing are left out."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the candidates in the message."""
        return tuple(one.key for one in self.rehearsals)

    @property
    def candidates(self) -> bool:
        """Whether the message carries the candidates and not the model in use."""
        return self.step in {"retain", "score"}


class Rehearsed(Body):
    """How one unlearning went, as in the reply of a real campaign."""

    number: Number
    passes: int = Field(ge=0, le=10**6)
    gaps: tuple[Amount, Amount, Amount] | None


class RehearseReply(Body):
    """Of one step: candidates are in the same message. Figures of patients are in the `report` alone."""

    site: Name
    cost: Amount
    seconds: Amount
    unlearned: tuple[Rehearsed, ...] = Field(default=(), max_length=MOST_IN_A_MESSAGE)
    refused: dict[Number, Name] = Field(default_factory=dict, max_length=MOST_IN_A_MESSAGE)
    """Rehearsals that this site could not begin, and why."""
    distances: dict[Number, Amount] = Field(default_factory=dict, max_length=MOST_IN_A_MESSAGE)
    """Distance of a candidate's worst branch from .5 on calibration patients, by which a round is chosen."""
    controls: Count = 0
    """Never-seen patients that can be compared with."""
    report: SiteRehearsals | None = None
