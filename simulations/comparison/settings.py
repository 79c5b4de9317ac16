"""Settings of a comparison: one TOML file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.settings import Positive, Settings, override, parse, read_toml
from simulations.run.settings import SimulationConfig, method_preset_names, names_in, preset_file

Factors = dict[str, tuple[Positive, ...]]
"""Of a setting, as `unlearn.lr`: what its value in the method's preset is multiplied by."""

RESERVED = ("original", "retrained")
"""Names that no variant may have, beside those of methods."""
EVERY = "every"
"""The name of the factors of methods that have none of their own."""
FACTORS: dict[str, Factors] = {
    EVERY: {"unlearn.lr": (1.0, 0.3, 3.0), "unlearn.passes": (1.0, 2.0)},
    "forget_mi_calibrated": {
        "unlearn.passes": (1.0, 2.0),
        "unlearn.task_weight": (1.0, 3.0),
        "unlearn.retain_batch": (1.0, 2.0),
    },
    "ssd": {"unlearn.ssd.selection": (1.0, 0.3, 3.0, 10.0)},
    "not": {"campaign.retention_lr_scale": (1.0, 0.3, 3.0), "campaign.retention_rounds": (1.0, 0.5)},
    "fed_eraser": {"unlearn.fed_eraser.interval": (1.0, 0.5, 2.0)},
}


class TuningConfig(Settings):
    """How each method is tuned once: the same cost for all, on patients who are in no comparison."""

    seed: int = 1000
    size: float = Field(default=0.10, gt=0.0, lt=1.0)
    """Share of the training patients who are forgotten."""
    parts: int = Field(default=3, ge=2)
    """With a manifest one in so many patients is set aside for tuning; made-up hospitals are drawn anew instead."""
    draws: int = Field(default=3, ge=1)
    """How many forget sets each setting is tried on; one alone says little."""
    budget: float = Field(default=1.0, ge=0.0)
    """What a method may spend, in trainings of the tuning federation; its preset is always tried."""
    trials: int = Field(default=6, ge=1)
    """Most settings that are tried."""
    factors: dict[str, Factors] = Field(default_factory=lambda: dict(FACTORS))
    """By method, or `every`; the preset's own values are always the first that are tried."""


class VariantConfig(Settings):
    """A method with some settings of its own, as an ablation: set beside the methods, never ranked among them."""

    method: str
    """It has this one's preset and what was tuned for it: only what stands here differs."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of the experiment, as `unlearn.noise`."""
    times: int = Field(default=1, ge=1)
    """Unlearning and retention in turn, so often: the forget terms then go on after retention."""


class ComparisonConfig(Settings):
    """One run of `fedforget-sim compare`."""

    run: SimulationConfig = SimulationConfig()
    """The federation: as a preset of `fedforget-sim run`. How many forget is `sizes`."""
    methods: tuple[str, ...] = ("forget_mi_calibrated", "forget_mi_paper")
    """Original and retrained stand beside them in any case."""
    variants: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")], VariantConfig] = Field(
        default_factory=dict
    )
    """By name; run with the first aggregation."""
    aggregations: tuple[Literal["replace", "relay", "scaled", "naive"], ...] = Field(default=("replace",), min_length=1)
    """The first is that of all methods; Forget-MI is run with each."""
    sizes: tuple[float, ...] = Field(default=(0.10,), min_length=1)
    """Shares of the training patients who are forgotten; all but the largest set are disjoint."""
    forget_lists: tuple[str, ...] = ()
    """With a manifest: files that name who is forgotten, one for each of `sizes`, instead of drawing them."""
    seeds: int = Field(default=2, ge=1)
    """Seeds 0 to N-1."""
    tuning: TuningConfig = TuningConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        methods = method_preset_names()
        unknown = sorted({*self.methods, *self.tuning.factors} - {*methods, EVERY})
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; one of {', '.join(methods)}")
        strange = sorted({variant.method for variant in self.variants.values()} - set(self.methods))
        if strange:
            raise ValueError(f"a variant of {strange[0]!r}, which is not one of methods")
        if clashes := sorted({*methods, *RESERVED} & set(self.variants)):
            raise ValueError(f"a variant may not be called {clashes[0]!r}")
        if "retrain" in self.methods:
            raise ValueError("retrain is what all are compared with, and always there")
        for values, name in ((self.methods, "methods"), (self.aggregations, "aggregations"), (self.sizes, "sizes")):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice")

        if not all(0 < size < 1 for size in self.sizes):
            raise ValueError("sizes are shares between 0 and 1")
        if self.forget_lists and (len(self.forget_lists) != len(self.sizes) or not self.run.manifest):
            raise ValueError("forget_lists names a file for each of sizes, of patients of a manifest")
        if self.tuning.seed < self.seeds and self.tuning.seed >= 0:
            raise ValueError(f"tuning.seed {self.tuning.seed} is one of the seeds that are compared")
        return self


def comparison_names() -> tuple[str, ...]:
    """Names of the presets of comparisons, in `presets/compare`."""
    return names_in("compare")


def load_comparison(preset: str, assignments: list[str]) -> ComparisonConfig:
    """A preset by name or path, with `a.b=c` assignments over it.

    Raises:
        ConfigError: an unknown preset, method or setting.
    """
    path = preset_file("compare", preset)
    return parse(ComparisonConfig, override(read_toml(path), assignments), path.name)
