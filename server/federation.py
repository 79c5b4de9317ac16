"""The sites as the server sees them: who is there, and exchanges that hand over each reply as it comes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.errors import UnavailableError, WireError
from common.wire import STATUS, StatusReply, StatusRequest, error_code, pack, size, unpack

log = logging.getLogger("fedforget.server")


@dataclass
class Meter:
    """Adds up what a phase cost. Bytes are counted as the sites see them."""

    forward_units: float = 0.0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Meter:
        """From what `dataclasses.asdict` gave."""
        whole = {name: int(values.get(name, 0)) for name in ("bytes_up", "bytes_down")}
        return cls(values.get("forward_units", 0.0), values.get("seconds", 0.0), **whole)


@dataclass
class Federation:
    """Sites by name, and the meter that exchanges are charged to."""

    grid: Grid
    nodes: Mapping[str, int]
    timeout: float = 3600.0
    poll: float = 0.05
    wait: Callable[[float], None] = time.sleep
    meter: Meter = field(default_factory=Meter)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(sorted(self.nodes))

    def status(self) -> dict[str, StatusReply]:
        """Ask every site for its counts; this is the registration that averaging weighs by."""
        return {name: unpack(r, StatusReply) for name, r in self.exchange(STATUS, self._to_all(pack(StatusRequest())))}

    def _to_all(self, records: RecordDict) -> dict[str, RecordDict]:
        return dict.fromkeys(self.sites, records)

    def exchange(self, kind: str, requests: Mapping[str, RecordDict]) -> Iterator[tuple[str, RecordDict]]:
        """Send one message to each site and yield the replies as they come.

        A site that answers with an error, or not in time, is logged and left out.

        Raises:
            UnavailableError: no site at all answered.
        """
        begin = time.monotonic()
        name_of: dict[str, str] = {}
        messages = []
        for name in sorted(requests):
            messages.append(Message(requests[name], self.nodes[name], kind, ttl=self.timeout))
            self.meter.bytes_down += size(requests[name])
        for name, identity in zip(sorted(requests), self.grid.push_messages(messages), strict=True):
            name_of[identity] = name
        waiting, answered = set(name_of), 0
        while waiting and time.monotonic() - begin < self.timeout:
            arrived = list(self.grid.pull_messages(list(waiting)))
            for message in arrived:
                identity = message.metadata.reply_to_message_id
                waiting.discard(identity)
                if message.has_error():
                    log.warning("%s: no answer to %s (code %s)", name_of[identity], kind, message.error.code)
                    continue
                if (code := error_code(message.content)) is not None:
                    log.warning("%s: answered %s with error %s, see its log", name_of[identity], kind, code)
                    continue
                answered += 1
                self.meter.bytes_up += size(message.content)
                yield name_of[identity], message.content
            if not arrived and waiting:
                self.wait(self.poll)
        self.meter.seconds += time.monotonic() - begin
        for identity in waiting:
            log.warning("%s: no answer to %s in time", name_of[identity], kind)
        if not answered:
            raise UnavailableError(f"no site answered {kind}")


def connect(grid: Grid, expected: int, timeout: float = 60.0, wait: Callable[[float], None] = time.sleep) -> Federation:
    """Wait until `expected` nodes are online and learn their sites' names.

    Raises:
        UnavailableError: fewer came in time.
        WireError: two nodes serve one site.
    """
    begin = time.monotonic()
    while len(nodes := sorted(grid.get_node_ids())) < expected:
        if time.monotonic() - begin > timeout:
            raise UnavailableError(f"{len(nodes)} of {expected} sites are online")
        wait(0.1)
    unnamed = Federation(grid, {f"node-{node}": node for node in nodes}, wait=wait)
    named = {reply.site: unnamed.nodes[node] for node, reply in unnamed.status().items()}
    if len(named) < len(nodes):
        raise WireError(f"{len(nodes)} nodes serve {len(named)} sites, each must serve its own")
    return Federation(grid, named, wait=wait)
