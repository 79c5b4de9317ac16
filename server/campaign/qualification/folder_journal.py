"""Finished steps of a qualification as files: a process may be killed anywhere and goes on from the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from common.errors import CheckpointError
from common.files import write_text
from server.rounds.journal import B, State
from server.rounds.states import CampaignState

if TYPE_CHECKING:
    from torch import Tensor


class _Step(BaseModel):
    body: str
    weights: str = ""


@dataclass(frozen=True, slots=True)
class FolderJournal:
    """Each step is a small file, written after its weights."""

    folder: Path

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """What a finished step left; None for one whose file or weights are missing or damaged: it is done again."""
        path = self._file(step)
        try:
            entry = _Step.model_validate_json(path.read_bytes())
            body = kind.model_validate_json(entry.body)
        except (OSError, ValidationError):
            return None
        if not entry.weights:
            return body, {}

        from server.rounds.step_weights import read_weights  # noqa: PLC0415 - torch, which listings do not need

        try:
            return body, read_weights(self._weights(step), entry.weights)
        except CheckpointError:
            return None

    def body(self, step: str, kind: type[B]) -> B | None:
        """The body alone, also where its weights are gone."""
        try:
            return kind.model_validate_json(_Step.model_validate_json(self._file(step).read_bytes()).body)
        except (OSError, ValidationError):
            return None

    def put(self, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a finished step; durable when this returns.

        Raises:
            OutputError: the disk is full.
        """
        digest = ""
        if weights:
            from server.rounds.step_weights import write_weights  # noqa: PLC0415 - see `get`

            digest = write_weights(self._weights(step), weights)
        # Last: a step exists once this file does, and then its weights are whole.
        write_text(self._file(step), _Step(body=body.model_dump_json(), weights=digest).model_dump_json())

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """A qualification is no campaign and has none of its states."""

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """What happens in a rehearsal stands in the record of its wave."""

    def drop_weights(self, prefix: str) -> None:
        """Delete the weights of all steps that begin so."""
        for path in self.folder.glob(f"{prefix}*.safetensors"):
            path.unlink(missing_ok=True)

    def _file(self, step: str) -> Path:
        return self.folder / f"{step}.json"

    def _weights(self, step: str) -> Path:
        return self.folder / f"{step}.safetensors"
