"""A finished qualification: what it rests on and what it found."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel

from common.learning.evaluation.qualification.conformity import Process
from common.learning.evaluation.qualification.rule import Qualification
from server.campaign.qualification.register import Register


class Result(BaseModel):
    """Written once, at the end."""

    registered: Register
    qualification: Qualification
    processes: tuple[Process, ...]
    """How each unlearning went, by which the process of a campaign is judged."""
    refused: dict[int, str]
    """Rehearsals that did not come about, and why."""
    cost: dict[str, float]
    finished: AwareDatetime

    @property
    def valid_until(self) -> datetime:
        """When it ends at the latest."""
        return self.registered.circumstances.at + timedelta(days=self.registered.plan.valid_days)
