"""Settings of a comparison: one TOML file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.settings import Positive, Settings, override, parse, read_toml
from simulations.run.settings import SimulationConfig, method_preset_names, names_in, preset_file

Factors = dict[str, tuple[Positive, ...]]
"""Factors by which the values of a method's preset are multiplied, by setting, e.g. `unlearn.lr`."""

RESERVED = ("original", "retrained")
"""Names that variants cannot have, in addition to those of methods."""
EVERY = "every"
"""Key of the factors for methods without their own."""
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
    """How methods are tuned: once each, at equal cost, on patients who are in no comparison."""

    seed: int = 1000
    size: float = Field(default=0.10, gt=0.0, lt=1.0)
    """Share of the training patients who are forgotten."""
    parts: int = Field(default=3, ge=2)
    """With a manifest, one in `parts` patients is set aside for tuning; synthetic hospitals are generated anew."""
    draws: int = Field(default=3, ge=1)
    """Number of forget sets for each setting; a single one is too noisy."""
    budget: float = Field(default=1.0, ge=0.0)
    """Budget of a method, in trainings of the tuning federation; its preset is always tried."""
    trials: int = Field(default=6, ge=1)
    """Maximum number of settings to try."""
    factors: dict[str, Factors] = Field(default_factory=lambda: dict(FACTORS))
    """Factors by method, or `every`; the values of the preset are always tried first."""


class VariantConfig(Settings):
    """A method with other settings, e.g. an ablation. It is shown beside the methods, and not ranked."""

    method: str
    """Base method; the variant has its preset and tuned values, apart from `settings`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the experiment, e.g. `unlearn.noise`."""
    times: int = Field(default=1, ge=1)
    """Number of turns of unlearning and retention; with several, the forget terms continue after retention."""


class ComparisonConfig(Settings):
    """One run of `fedforget-sim compare`."""

    run: SimulationConfig = SimulationConfig()
    """The federation, like a preset of `fedforget-sim run`; `sizes` sets how many patients are forgotten."""
    methods: tuple[str, ...] = ("forget_mi_calibrated", "forget_mi_paper")
    """Methods to compare; original and retrained are always included."""
    variants: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")], VariantConfig] = Field(
        default_factory=dict
    )
    """Variants by name; they run with the first aggregation."""
    aggregations: tuple[Literal["replace", "relay", "scaled", "naive"], ...] = Field(default=("replace",), min_length=1)
    """All methods run with the first aggregation, Forget-MI with each."""
    sizes: tuple[float, ...] = Field(default=(0.10,), min_length=1)
    """Shares of the training patients who are forgotten; all but the largest set are disjoint."""
    forget_lists: tuple[str, ...] = ()
    """With a manifest: files of forget patients, one for each of `sizes`, instead of random draws."""
    seeds: int = Field(default=2, ge=1)
    """Seeds 0 to N-1."""
    tuning: TuningConfig = TuningConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        methods = method_preset_names()
        unknown = sorted({*self.methods, *self.tuning.factors} - {*methods, EVERY})
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; one of {', '.join(methods)}")
        # A variant takes the tuned factors of its method, and only methods that are compared are tuned.
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
        # Settings tuned on a compared seed would have seen its patients.
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
