"""Which SuperNodes may connect: those of active hospitals, under the key that each of them has now."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from common.platform.sql import transaction
from server.campaign.context import CoordinatorContext
from server.database import SiteRow, signed64
from server.runtime.control import Node

log = logging.getLogger("fedforget.coordinator")
COMPARE_EVERY = timedelta(minutes=1)
"""How often Flower's nodes are compared with the register although nothing has changed in ours."""


class Nodes(Protocol):
    """What is needed here of `server.runtime.control.Control`."""

    def nodes(self) -> list[Node]:
        """Registered nodes."""

    def register_node(self, openssh_public_key: bytes, name: str) -> int:
        """Let a node in."""

    def unregister_node(self, node: int) -> None:
        """Shut a node out."""


@dataclass
class NodeRegister:
    """Keeps Flower's nodes in line with the register of hospitals."""

    house: CoordinatorContext
    nodes: Nodes
    _last_comparison: datetime | None = None

    def compare(self) -> None:
        """Let the nodes of active sites in, under the key they have now, and shut all others out."""
        sites = self.house.sites()
        now = self.house.store.clock()
        has_changed = any((s.state == "active") == (s.node is None) for s in sites if s.state != "suspended")
        if not has_changed and self._last_comparison is not None and now < self._last_comparison + COMPARE_EVERY:
            return
        # A node's name holds its key's digest: found again after a crash between Flower's record and ours.
        node_of = {node.name: node.node for node in self.nodes.nodes() if node.status != "unregistered"}
        for site in sites:
            label = f"{site.name}-{hashlib.sha256(site.node_key.encode()).hexdigest()[:16]}"
            node = node_of.get(label)

            if site.state == "active" and (node is None or site.node != signed64(node)):
                # Flower's own state may have been lost, or restored from before the site was let in.
                self._set_node(
                    site.name, self.nodes.register_node(site.node_key.encode(), label) if node is None else node
                )
                log.info("%s: its node may connect", site.name)
            elif site.state == "revoked" and site.node is not None:
                self._set_node(site.name, None)
                log.info("%s: its node is shut out", site.name)

        mine = {site.node for site in self.house.sites()}
        # Whatever else is registered was let in by nobody here.
        for node in node_of.values():
            if signed64(node) not in mine:
                self.nodes.unregister_node(node)

        self._last_comparison = now

    def _set_node(self, name: str, node: int | None) -> None:
        with transaction(self.house.engine) as session:
            row = session.get_one(SiteRow, name)
            row.node = None if node is None else signed64(node)
