"""`python -m simulations.scale.superlink_calls`: what waiting hospitals cost Flower's SuperLink.

The bench calls the database as SuperLink's own handlers do. The figures include neither HTTP, TLS nor signatures, so a
real SuperLink carries less. It is Flower 1.41's class for SQLite on a disk, which is not public.
"""

from __future__ import annotations

import argparse
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

LOOK_EVERY = 3.0
"""Seconds between two polls of a SuperNode for messages, `flwr/supernode/start_client_internal.py`."""
_CALLS = 300
_RECORDS_BYTES = 1000
"""Bytes of a message in the table; weights are stored elsewhere."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Core seconds of one call.

    Attributes:
        look: of a SuperNode for messages, when nobody has any.
        look_in_round: the same while each hospital has taken one and works on it.
        heartbeat: of a SuperNode.
    """

    look: float
    look_in_round: float
    heartbeat: float

    def busy(self, hospitals: int, look: float) -> float:
        """Share of the time in which SQLite, which has one writer, is at it, waits for the disk left out."""
        return hospitals * (look / LOOK_EVERY + self.heartbeat / HEARTBEAT_DEFAULT_INTERVAL)


def measure(hospitals: int, folder: Path) -> Calls:
    """Calls of hospitals in turn, with so many registered and online, in a database in `folder`."""
    file = folder / "state.db"
    state = SqlLinkState(str(file), NoOpFederationManager(), ObjectStoreFactory(str(file)).store())
    state.initialize()
    keys = (secrets.token_bytes(97) for _ in range(hospitals))
    nodes = [state.create_node("owner", "owner", key, HEARTBEAT_DEFAULT_INTERVAL) for key in keys]
    for node in nodes:
        state.activate_node(node, HEARTBEAT_DEFAULT_INTERVAL)

    def each(call: Callable[[int], object]) -> float:
        begin = time.process_time()
        for number in range(_CALLS):
            call(nodes[number % len(nodes)])
        return (time.process_time() - begin) / _CALLS

    def look(node: int) -> object:
        return state.get_message_ins(node, limit=1)

    def heartbeat(node: int) -> object:
        return state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)

    waiting = each(look)
    beating = each(heartbeat)
    rows = [(str(at), _signed(node), time.time(), bytes(_RECORDS_BYTES)) for at, node in enumerate(nodes)]

    # Straight into the table: what is measured is a look while messages are out, not their delivery.
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany(
            "INSERT INTO message_ins (message_id, dst_node_id, created_at, content, delivered_at, ttl)"
            " VALUES (?, ?, ?, ?, 'taken', 3600.0)",
            rows,
        )

    return Calls(waiting, each(look), beating)


def _signed(node: int) -> int:
    """A node's id as SQLite holds it, whose integers have a sign."""
    return int.from_bytes(node.to_bytes(8), signed=True)


def table(counts: Sequence[int]) -> str:
    """Format the table as Markdown, with a row for each number of hospitals."""
    head = ("hospitals", "a look, ms", "busy, nobody has messages", "a look in a round, ms", "busy in a round")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]

    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(count, Path(folder))
        cells = [f"{count}", f"{figures.look * 1e3:.2f}", f"{figures.busy(count, figures.look):.0%}"]
        cells += [f"{figures.look_in_round * 1e3:.2f}", f"{figures.busy(count, figures.look_in_round):.0%}"]
        lines.append(f"| {' | '.join(cells)} |")

    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m simulations.scale.superlink_calls")
    parser.add_argument("--hospitals", type=int, nargs="+", default=[16, 256, 1000, 4000, 10000])
    sys.stdout.write(table(parser.parse_args().hospitals))


if __name__ == "__main__":
    main()
