"""Schema of `scale.json`: time, memory and bytes of each size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import ResultError
from common.files import write_text

StageName = Literal["first round", "round", "audit", "unlearning", "retention", "final audit"]
STAGES: dict[StageName, str] = {
    "first round": "Training, first round",
    "round": "Training, a round",
    "audit": "Audit",
    "unlearning": "Unlearning and aggregation",
    "retention": "Retention, a round and the choice",
    "final audit": "Audit and decision",
}
"""In the order in which they run; whole models go down in the first round, changes in the others."""
FORGETTING: tuple[StageName, ...] = ("unlearning", "retention", "final audit")
"""From the start of a campaign to its decision; the audit before it is as long as the one after."""


class Stage(BaseModel):
    """One step of the federation. Seconds are of a core, so that other work on the machine does not count."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    server: float
    """Core seconds of the server's process."""
    hospitals: float
    """Core seconds of all hospitals together."""
    slowest: float
    """Of the slowest hospital of each exchange: how long the step waits when all compute at once."""
    wall: float
    """Wall-clock seconds, with the hospitals one after the other."""
    up: int
    """Bytes of all messages to the server, as Flower writes them."""
    down: int
    messages: int

    @property
    def at_once(self) -> float:
        """Seconds without network where each hospital has its own machine."""
        return self.server + self.slowest


class Size(BaseModel):
    """One federation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    digest: str
    """Digest of its settings."""
    hospitals: int
    patients: int
    """In training, over all hospitals."""
    forgotten: int
    parameters: int
    stages: dict[StageName, Stage]
    merge: float
    """Seconds to merge the audits of all hospitals."""
    memory: float | None
    """MiB of the server's process before the first round; None where there is no `/proc`."""
    peak: float | None
    """Peak increase in MiB after that."""
    decision: str
    decision_rests_on: str = ""
    machine: str
    versions: dict[str, str]
    seconds: float

    @property
    def forget(self) -> float:
        """Seconds from the start of a campaign to its decision, where all hospitals compute at once."""
        return sum(self.stages[name].at_once for name in FORGETTING)


def size_path(out: Path, hospitals: int) -> Path:
    """Path of the result of a size."""
    return out / "sizes" / f"{hospitals}.json"


def write_size(out: Path, result: Size) -> None:
    """Write a result atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(size_path(out, result.hospitals), result.model_dump_json(indent=2) + "\n")


def read_size(path: Path) -> Size:
    """Read a result.

    Raises:
        ResultError: the file is missing, or of another version.
    """
    try:
        return Size.model_validate_json(path.read_bytes())
    except OSError as err:
        raise ResultError(f"cannot be read: {err.strerror}", where=str(path)) from None
    except ValidationError:
        raise ResultError(
            "not a size result of this version", where=str(path), remedy="delete it and run scale again"
        ) from None
