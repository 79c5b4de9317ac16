"""Waits for the sites of a federation: those of a simulation, and those that are registered."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Mapping

from flwr.serverapp import Grid

from common.errors import UnavailableError, WireError
from server.rounds.exchanges.signer import Signer
from server.rounds.federation import Federation

NAMING_TIMEOUT = 300.0
"""Seconds that a site has to tell its name; the first exchange of a simulation starts Ray as well."""


def connect(grid: Grid, expected: int, timeout: float = 60.0, wait: Callable[[float], None] = time.sleep) -> Federation:
    """Wait until `expected` nodes are online and learn their sites' names from them: for simulations.

    Raises:
        UnavailableError: fewer came in time, or fewer answered.
        WireError: two nodes serve one site.
    """
    nodes = _online(grid, expected, timeout, wait)
    if len(nodes) < expected:
        raise UnavailableError(f"{len(nodes)} of {expected} sites are online")
    by_node = Federation(grid, {f"node-{node}": node for node in sorted(nodes)}, wait=wait, names_known=False)
    replies = by_node.status(NAMING_TIMEOUT)
    node_of_site = {reply.site: by_node.nodes[node] for node, reply in replies.items()}
    # Of two nodes with one name, one would answer for the other's patients.
    if len(node_of_site) < len(replies):
        raise WireError(f"{len(replies)} nodes serve {len(node_of_site)} sites, each must serve its own")
    # A node that died within the last minute still counts as online, but answers nothing.
    if len(node_of_site) < expected:
        raise UnavailableError(f"{len(node_of_site)} of {expected} sites answered")
    return Federation(grid, node_of_site, wait=wait)


def connect_registered(
    grid: Grid,
    nodes: Mapping[str, int],
    signer: Signer,
    *,
    at_least: int = 1,
    timeout: float = 60.0,
    poll: float = 1.0,
    wait: Callable[[float], None] = time.sleep,
    seen: Callable[[Collection[str]], None] = lambda _: None,
) -> Federation:
    """The sites of the register `nodes` that are online, waiting until all are, or `timeout` seconds.

    `poll` is in seconds: each look is a call to the SuperLink for each site that is waited for. `seen` is told at each
    look who is online.

    Raises:
        UnavailableError: fewer than `at_least` came in time.
    """
    # Names come from the register, not from what a node says of itself.
    names = {node: name for name, node in nodes.items()}

    def look(online: Collection[int]) -> None:
        seen([names[node] for node in online])

    online = _online(grid, len(names), timeout, wait, known=names, look=look)
    if len(online) < at_least:
        raise UnavailableError(f"{len(online)} of {len(names)} sites are online, {at_least} needed")
    return Federation(grid, {names[node]: node for node in sorted(online)}, poll=poll, wait=wait, signer=signer)


def _online(
    grid: Grid,
    count: int,
    timeout: float,
    wait: Callable[[float], None],
    known: Container[int] | None = None,
    look: Callable[[Collection[int]], None] = lambda _: None,
) -> set[int]:
    """Nodes online (of `known` ones) as soon as they are `count`, or after `timeout` seconds."""
    begin = time.monotonic()

    while True:
        nodes = {node for node in grid.get_node_ids() if known is None or node in known}
        look(nodes)
        if len(nodes) >= count or time.monotonic() - begin > timeout:
            return nodes
        wait(0.1)
