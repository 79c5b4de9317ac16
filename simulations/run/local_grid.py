"""Flower Grids without a runtime, Ray or sockets. The local one calls the ClientApp in this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, cast

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


def identify(message: Message) -> str:
    """Give a message an id, as a runtime does; an existing id is kept."""
    identity = message.metadata.message_id or str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = identity
    return identity


class BareGrid(Grid):
    """Base of Grids without a runtime. Subclasses say how a message reaches its node."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = tuple(nodes)
        self._run = Run.create_empty(run_id=1)
        # Message() asks this internal class for the ids that a runtime would have set.
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = 1
        TaskIdentity.node_id = 1

    def set_run(self, run: Run) -> None:
        """Store the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message in the same way as the runtimes."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; they are always online."""
        return list(self._nodes)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:  # noqa: ARG002 - part of the interface
        """Push messages and pull the replies."""
        return self.pull_messages(self.push_messages(messages))


class LocalGrid(BareGrid):
    """One persistent Context per node; a message is handled when it is pushed, in order."""

    def __init__(self, app: ClientApp, node_configs: Mapping[int, Mapping[str, Any]]) -> None:
        super().__init__(node_configs)
        self._app = app
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in node_configs.items()
        }
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Handle each message immediately and store the reply."""
        ids = []

        for message in messages:
            identity = identify(message)
            self._replies[identity] = self._handle(message)
            ids.append(identity)

        return ids

    def _handle(self, message: Message) -> Message:
        # Each receiver gets records of its own, as after a network hop; the bytes of arrays are shared.
        content = RecordDict({key: type(record)(cast(Any, dict(record))) for key, record in message.content.items()})
        copy = Message.__new__(Message)
        copy.__dict__.update({**message.__dict__, "_content": content})

        try:
            return self._app(copy, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 - the runtimes turn any exception into an error reply as well
            return Message(Error(code=2, reason=type(error).__name__), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are available."""
        # Handed out once, and then dropped: replies hold whole models.
        return [self._replies.pop(identity) for identity in list(message_ids) if identity in self._replies]
