"""A grid on which honest hospitals answer alike what they were asked before, and one answers what it likes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from simulations.run.local_grid import LocalGrid

MOST_REMEMBERED = 1500
"""Answers; those asked for last stay."""
Play = Callable[[str, RecordDict], RecordDict]
"""Type of message and honest reply to what the rogue sends instead; it may raise, as its ClientApp may."""


def key_of(message: Message) -> str:
    """The same for the same question to the same node."""
    total = hashlib.sha256(f"{message.metadata.dst_node_id}/{message.metadata.message_type}".encode())

    for name, record in sorted(message.content.items()):
        if name == "body" and isinstance(record, ConfigRecord):
            total.update(str(record["json"]).encode())
        elif isinstance(record, ArrayRecord):
            for array_name, array in record.items():
                total.update(array_name.encode() + array.data)

    return total.hexdigest()


class RogueGrid(LocalGrid):
    """`play` makes the replies of node `rogue`; `remembered` may be shared by grids over the same folders."""

    def __init__(
        self, app: Any, nodes: dict[int, dict[str, Any]], rogue: int, play: Play, remembered: dict[str, RecordDict]
    ) -> None:
        super().__init__(app, nodes)
        self.rogue = rogue
        self.play = play
        self.remembered = remembered

    def _handle(self, message: Message) -> Message:
        key = key_of(message)
        if key in self.remembered:
            self.remembered[key] = self.remembered.pop(key)
        else:
            answered = super()._handle(message)
            if answered.has_error():
                return answered
            self.remembered[key] = RecordDict(
                {name: type(record)(dict(record)) for name, record in answered.content.items()}  # type: ignore[arg-type]
            )
            while len(self.remembered) > MOST_REMEMBERED:
                self.remembered.pop(next(iter(self.remembered)))

        # Whoever reads arrays may take them out of their record.
        kept = self.remembered[key].items()
        content = RecordDict({name: type(record)(dict(record)) for name, record in kept})  # type: ignore[arg-type]
        if message.metadata.dst_node_id == self.rogue:
            content = self.play(message.metadata.message_type, content)
        return Message(content, reply_to=message)
