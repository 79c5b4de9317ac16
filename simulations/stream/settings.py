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
    """Arrival of revocations."""

    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """Start of the simulated time; due dates follow the calendar."""
    days: Positive = 365.0
    per_month: float = Field(default=10.0, ge=0.0)
    """Mean number of patients who revoke in a month of 30.4 days: a Poisson process over all hospitals."""
    bursts: int = Field(default=2, ge=0)
    """Number of bursts, in which many patients of one hospital revoke, e.g. after a news report."""
    burst_patients: int = Field(default=8, ge=1)
    burst_days: Positive = 3.0
    """Days within which the patients of a burst revoke."""
    leaving: str = ""
    """Name of a hospital that leaves."""
    leaves_on_day: Positive = 60.0


class BatchingConfig(Settings):
    """When the coordinator's policy starts a campaign: on whichever condition is met first."""

    min_batch: int = Field(default=6, ge=1)
    """Number of waiting patients that starts a campaign immediately."""
    lead_days: float = Field(default=7.0, ge=0.0, le=28.0)
    """Days before the first due date at which a campaign starts in any case."""

    apart: bool = False
    """Whether each hospital's revocations wait for a campaign of their own: a qualification covers one hospital at a
    time."""

    def policy(self) -> PolicyConfig:
        """The coordinator's policy; other conditions cannot start a campaign within a year."""
        return PolicyConfig(
            min_batch=self.min_batch, window_hours=A_YEAR_OF_HOURS, lead_hours=24 * self.lead_days
        )  # fmt: skip


class StreamConfig(Settings):
    """One run of `fedforget-sim stream`."""

    run: SimulationConfig = SimulationConfig()
    """The federation and its campaigns, like a preset of `fedforget-sim run`; `arrivals` draws the patients."""
    arrivals: ArrivalsConfig = ArrivalsConfig()
    batching: BatchingConfig = BatchingConfig()
    seeds: int = Field(default=1, ge=1)
    """Number of seeds; hospitals, arrivals and training differ between them."""
    first_seed: int = Field(default=0, ge=0)
    """The others count up from it. Report on seeds that no setting was chosen on."""
    retrain_every: int = Field(default=0, ge=0)
    """Number of campaigns between retrained controls; there is always one at the end."""
    auc_aim: Fraction = 0.03
    """Largest acceptable difference of test AUC to the control at the end."""
    mia_aim: Fraction = 0.05
    """The same for the loss AUC of all who were forgotten."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.run.experiment.unlearn.method == "retrain":
            raise ValueError("retrain is the control of a stream; choose another unlearn.method")
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
