"""Settings of a simulation: the experiment, and where its patients come from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from common.errors import ConfigError
from common.learning.config import ExperimentConfig
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.settings import Positive, Settings, override, parse, read_toml


class HospitalsConfig(Settings):
    """Synthetic hospitals, used without a manifest."""

    sites: int = Field(default=4, ge=2)
    patients: int = Field(default=60, ge=10)
    image_size: int = Field(default=128, ge=32)


class SimulationConfig(Settings):
    """One run of `fedforget-sim run`."""

    experiment: ExperimentConfig = ExperimentConfig()
    hospitals: HospitalsConfig = HospitalsConfig()
    manifest: str = ""
    """A CSV of studies, or a folder of MIMIC-CXR with `folds.csv` in it; empty for synthetic hospitals."""
    sites: int | Literal["natural"] = "natural"
    """Deal patients to so many sites, or keep the sites of the manifest."""
    forget: int | Positive | str = 10
    """Training patients who revoke: a number, a share (below 1), or a file. Patients in the file are all trained on."""
    forget_sites: tuple[str, ...] = ()
    """Sites where they revoke, in equal parts; empty for the first site. A file may list patients of any site."""
    forget_shared: bool = False
    """Patients known at several sites are trained on at all of them, and are the first to revoke."""
    engine: Literal["flower", "inprocess"] = "flower"
    retrain: bool = True
    qualify: bool = False
    """Rehearse before the revocations, so that the outcome may rest on a qualification."""
    qualification: QualificationPlan = QualificationPlan()
    """What `fedforget-sim qualify` registers."""


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    folder = resources.files("simulations") / "presets"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def method_preset_names() -> tuple[str, ...]:
    """Names of the unlearning methods, each of which has a preset of its own in `presets/methods`."""
    return names_in("methods")


def names_in(kind: str) -> tuple[str, ...]:
    """Names of the presets in `presets/<kind>`."""
    folder = resources.files("simulations") / "presets" / kind
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def preset_file(kind: str, preset: str) -> Path:
    """A preset in `presets/<kind>` by name, or any TOML file by path.

    Raises:
        ConfigError: no preset has that name.
    """
    path = Path(preset)
    if path.suffix:
        return path
    if preset not in names_in(kind):
        raise ConfigError(
            f"unknown preset {preset!r}", where="--preset", remedy=f"use one of {', '.join(names_in(kind))}"
        )

    return Path(str(resources.files("simulations") / "presets" / kind / f"{preset}.toml"))


def load_settings(
    preset: str | None, assignments: list[str], values: dict[str, Any], method: str | None = None
) -> SimulationConfig:
    """A preset by name or path, then that of a `method`, `values` from flags, `a.b=c` assignments; the last one wins.

    Assignments may omit the leading `experiment.`, e.g. `train.rounds=3`.

    Raises:
        ConfigError: an unknown preset, method or setting.
    """
    settings: dict[str, Any] = {}
    where = "settings"

    if preset is not None:
        path = Path(preset)
        if not path.suffix:
            path = Path(str(resources.files("simulations") / "presets" / f"{preset}.toml"))
            if not path.exists():
                raise ConfigError(
                    f"unknown preset {preset!r}", where="--preset", remedy=f"use one of {', '.join(preset_names())}"
                )

        settings = read_toml(path)
        where = str(path.name)

    if method is not None:
        settings = merged(settings, _method_preset(method))
    settings = {**settings, **values}
    short = tuple(ExperimentConfig.model_fields)
    full = [f"experiment.{text}" if text.split(".")[0].split("=")[0] in short else text for text in assignments]

    return parse(SimulationConfig, override(settings, full), where)


def with_method(config: SimulationConfig, name: str) -> SimulationConfig:
    """Apply the preset of a method to `config`.

    Raises:
        ConfigError: the method is unknown.
    """
    values = config.model_dump(mode="json", exclude_unset=True)
    return parse(SimulationConfig, merged(values, _method_preset(name)), name)


def _method_preset(name: str) -> dict[str, Any]:
    if name not in method_preset_names():
        raise ConfigError(
            f"unknown method {name!r}", where="--method", remedy=f"use one of {', '.join(method_preset_names())}"
        )

    return read_toml(Path(str(resources.files("simulations") / "presets" / "methods" / f"{name}.toml")))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two tables recursively; where both have a value, `above` wins."""
    result = {**below}
    for name, value in above.items():
        there = result.get(name)
        result[name] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value

    return result
