"""Settings of a measurement over federations of several sizes: one TOML file."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.settings import Settings, override, parse, read_toml
from simulations.run.settings import SimulationConfig, preset_file


class ScaleConfig(Settings):
    """One run of `fedforget-sim scale`."""

    run: SimulationConfig = SimulationConfig()
    """The federation, like a preset of `fedforget-sim run`, with synthetic hospitals; `sizes` sets their number."""
    sizes: tuple[int, ...] = Field(default=(4, 16, 64, 256), min_length=1)
    """Hospitals of each federation; a smaller one is the first hospitals of the largest."""
    rounds: int = Field(default=3, ge=2)
    """Training rounds. The first sends whole models and is reported separately from those that send changes."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sorted({*self.sizes}) != list(self.sizes) or self.sizes[0] < 2:
            raise ValueError("sizes must rise, and start at 2 or more")
        if self.run.manifest:
            raise ValueError("scale uses synthetic hospitals; leave out run.manifest")
        return self


def load_scale(preset: str, assignments: list[str]) -> ScaleConfig:
    """A preset by name or path, with `a.b=c` assignments over it.

    Raises:
        ConfigError: an unknown preset or setting.
    """
    path = preset_file("scale", preset)
    return parse(ScaleConfig, override(read_toml(path), assignments), path.name)
