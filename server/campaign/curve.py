"""The figures of a training's rounds, as a page draws them: written while it runs, and kept when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ValidationError

from common.errors import OutputError
from common.files import write_text

if TYPE_CHECKING:
    from server.rounds.training import Round

_FILE = "curve.json"
STEP = "rounds"
"""Step of a campaign that keeps the curve of its training."""


class CurvePoint(BaseModel):
    """A round. Losses in nats; validation figures are of the model that the round began with."""

    round: int
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_auc: float | None = None
    """Macro AUC of the fused branch."""
    missing: tuple[str, ...] = ()
    """Sites that the round went on without."""
    ended: AwareDatetime | None = None


class Curve(BaseModel):
    """The rounds of one training, in order.

    Attributes:
        kept: round whose weights were kept, the model that it began with; None while the training runs.
    """

    rounds: tuple[CurvePoint, ...] = ()
    kept: int | None = None


@dataclass(slots=True)
class CurveFile:
    """Writes a training's curve to a folder at each round. Nothing goes on from it: a full disk costs no training."""

    folder: Path
    clock: Callable[[], datetime]
    _points: list[CurvePoint] = field(init=False, default_factory=list)
    _end_times: dict[int, datetime] = field(init=False)

    def __post_init__(self) -> None:
        before = read_curve(self.folder)
        self._end_times = {point.round: point.ended for point in before.rounds if point.ended is not None}

    def note(self, record: Round) -> None:
        """Add a round; one that an earlier run finished keeps its time."""
        end = self._end_times.setdefault(record.round, self.clock())
        self._points.append(
            CurvePoint(
                round=record.round,
                train_loss=record.train_loss,
                validation_loss=record.validation_loss,
                validation_auc=record.validation_auc,
                missing=record.missing,
                ended=end,
            )
        )
        with suppress(OutputError):
            write_text(self.folder / _FILE, Curve(rounds=tuple(self._points)).model_dump_json())

    def finished(self, kept: int | None) -> Curve:
        """The whole curve."""
        return Curve(rounds=tuple(self._points), kept=kept)


def read_curve(folder: Path) -> Curve:
    """The curve of a training that runs; empty where nothing is known of it."""
    try:
        return Curve.model_validate_json((folder / _FILE).read_bytes())
    except (OSError, ValidationError):
        return Curve()
