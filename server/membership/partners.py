"""What the coordination service needs of the registry and of the attestations, so that it imports neither."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.recipients import Recipient
from server.database import SiteRow


class Versions(Protocol):
    """What the service needs of `server.registry.deliveries.Deliveries`; weights go by their digest."""

    def holds(self, site: str, digests: Collection[str]) -> None:
        """A site says that it holds these."""

    def owed(self, site: str) -> tuple[str, ...]:
        """Those that the site must delete and has not said to be gone."""

    def purged(self, site: str, digests: Collection[str]) -> None:
        """A site says that it holds none of these any more."""

    def recipients_for(self, site: str, most: int) -> Mapping[str, Sequence[Recipient]]:
        """Who received the versions that the site received."""


class Desk(Protocol):
    """What the service needs of `server.attestation.coordinator_evidence.CoordinatorEvidence`."""

    def checkpoint(
        self, site: SiteRow, request: messages.ExchangeCheckpointRequest
    ) -> messages.ExchangeCheckpointReply:
        """Co-sign each other's logs."""

    def attestations(
        self, site: SiteRow, request: messages.ExchangeAttestationsRequest
    ) -> messages.ExchangeAttestationsReply:
        """Tell of attestations, and have them signed."""
