"""The base of all settings, and how they are read from TOML and from `--set`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Settings)


def parse(model: type[T], values: dict[str, Any], where: str) -> T:
    """Validate `values`, or raise a `ConfigError` that names the first invalid setting."""
    try:
        return model.model_validate(values)
    except ValidationError as err:
        first = err.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        more = f" and {err.error_count() - 1} more" if err.error_count() > 1 else ""
        raise ConfigError(
            f"{name}: {first['msg']}{more}", where=where, remedy="see docs/reference/configuration.md"
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into a dict, or raise a `ConfigError` that names it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), remedy="check the path") from None
    except OSError as err:
        raise ConfigError(f"cannot be read: {err.strerror}", where=str(path), remedy="check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"not valid TOML: {err}", where=str(path)) from None


def override(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply `a.b=c` assignments (from `--set`) to nested `values`; the right side is TOML, otherwise a string."""
    result = {**values}

    for text in assignments:
        key, sep, raw = text.partition("=")
        if not sep or not key.strip():
            raise ConfigError(
                f"{text!r} is not of the form a.b=value", where="--set", remedy="try --set train.rounds=3"
            )

        try:
            value = tomllib.loads(f"v = {raw}")["v"]
        except tomllib.TOMLDecodeError:
            value = raw.strip()

        node = result
        *parents, last = key.strip().split(".")

        for part in parents:
            child = node.get(part)
            # A copy, so that the caller's tables stay as they are.
            node[part] = dict(child) if isinstance(child, dict) else {}
            node = node[part]

        node[last] = value

    return result
