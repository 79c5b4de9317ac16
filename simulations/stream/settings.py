"""Settings of a stream: one TOML file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import Field, model_validator

from common.settings import Fraction, Positive, Settings, override, parse, read_toml
from server.settings import PolicyConfig
from simulations.run.settings import SimulationConfig, preset_file

A_YEAR_OF_HOURS = 8784.0


class ArrivalsConfig(Settings):
    """Who revokes when."""

    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """Of the simulated time; due dates follow the calendar."""
    days: Positive = 365.0
    per_month: float = Field(default=10.0, ge=0.0)
    """Patients who revoke in a month of 30.4 days, in the mean: a Poisson process over all hospitals."""
    bursts: int = Field(default=2, ge=0)
    """Times at which many patients of one hospital revoke, as after a report in the news."""
    burst_patients: int = Field(default=8, ge=1)
    burst_days: Positive = 3.0
    """Within so many days."""
    leaving: str = ""
    """A hospital that leaves, by name."""
    leaves_on_day: Positive = 60.0


class BatchingConfig(Settings):
    """When a campaign starts, by the coordinator's own policy: what is first of the two."""

    min_batch: int = Field(default=6, ge=1)
    """Waiting patients that start a campaign at once."""
    lead_days: float = Field(default=7.0, ge=0.0, le=28.0)
    """In any case so long before the first due date."""

    def policy(self) -> PolicyConfig:
        """As the coordinator has it; within a year nothing starts a campaign but these two."""
        return PolicyConfig(
            min_batch=self.min_batch, window_hours=A_YEAR_OF_HOURS, lead_hours=24 * self.lead_days
        )  # fmt: skip


class StreamConfig(Settings):
    """One run of `fedforget-sim stream`."""

    run: SimulationConfig = SimulationConfig()
    """The federation and its campaigns: as a preset of `fedforget-sim run`. Who forgets is drawn by `arrivals`."""
    arrivals: ArrivalsConfig = ArrivalsConfig()
    batching: BatchingConfig = BatchingConfig()
    seeds: int = Field(default=1, ge=1)
    """Seeds 0 to N-1: hospitals, arrivals and training are drawn anew."""
    retrain_every: int = Field(default=0, ge=0)
    """Also retrain for comparison after every so many campaigns; at the end in any case."""
    auc_aim: Fraction = 0.03
    """Largest difference of test AUC to the model that is retrained at the end."""
    mia_aim: Fraction = 0.05
    """The same for the loss AUC of all who were forgotten."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.run.experiment.unlearn.method == "retrain":
            raise ValueError("retraining is what a stream is compared with; choose another unlearn.method")
        if self.arrivals.leaving and self.arrivals.leaves_on_day > self.arrivals.days:
            raise ValueError("leaves_on_day is after the end of the stream")
        return self


def load_stream(preset: str, assignments: list[str]) -> StreamConfig:
    """A preset by name or path, with `a.b=c` assignments over it.

    Raises:
        ConfigError: an unknown preset or setting.
    """
    path = preset_file("stream", preset)
    return parse(StreamConfig, override(read_toml(path), assignments), path.name)
