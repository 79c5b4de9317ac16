"""What a campaign has finished: each step is written before the next begins, and a restart reads it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import BaseModel

from server.rounds.states import CampaignState

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
B = TypeVar("B", bound=BaseModel)


class Journal(Protocol):
    """Finished steps of one campaign by name, each with a body and, where it made a model, weights."""

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """What a finished step left, None for one that is not finished."""

    def put(self, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a finished step; durable when this returns."""

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """Move on; a state that was entered before is passed by."""

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """Write down that something happened."""


def step(
    journal: Journal, name: str, kind: type[B], work: Callable[[], tuple[B, Mapping[str, Tensor] | None]]
) -> tuple[B, State]:
    """What step `name` left; its work is only done if it has not been."""
    # Work that was done is not repeated: another seed or another set of answers would give another model.
    entry = journal.get(name, kind)
    if entry is not None:
        return entry
    body, weights = work()
    journal.put(name, body, weights)

    return body, dict(weights or {})


class MemoryJournal:
    """For simulations, which write a finished stage as a whole."""

    def __init__(self, **known: BaseModel) -> None:
        """Steps in `known` are taken as finished."""
        self._steps = known
        self.states: list[CampaignState] = []
        self.notes: list[tuple[str, str, str | None]] = []

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """See `Journal`."""
        entry = self._steps.get(step)
        return (entry, {}) if isinstance(entry, kind) else None

    def put(self, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None) -> None:
        """Keeps nothing: the caller goes on with what it has."""

    def enter(self, state: CampaignState, reason: str = "") -> None:  # noqa: ARG002 - a journal's signature
        """See `Journal`."""
        self.states.append(state)

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """See `Journal`."""
        self.notes.append((kind, detail, site))
