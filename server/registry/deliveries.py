"""Which site got which version, whether its copies of versions out of use are gone, and who else got one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, select

from common.platform.sql import reading, transaction
from common.protocol.recipients import Recipient
from server.database import DeliveryRow, EventRow, ExportRow, VersionRow
from server.registry.versions import OUT_OF_USE, check_usable, in_use, version_of, version_row


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Deliveries of one coordinator's versions."""

    engine: Engine
    clock: Callable[[], datetime]

    def deliver(self, name: str, site: str) -> None:
        """Remember that a site gets a version.

        Raises:
            RefusedError: it is quarantined or withdrawn.
        """
        with transaction(self.engine) as session:
            check_usable(version_row(session, name))
            delivery = session.get(DeliveryRow, (name, site))

            if delivery is None:
                session.add(DeliveryRow(version=name, site=site, sent=self.clock()))
            # It gets the version a second time, and so holds a copy that it once had deleted.
            elif delivery.purged is not None:
                delivery.sent = self.clock()
                delivery.purged = None

    def owed(self, site: str) -> tuple[str, ...]:
        """Digests of quarantined and withdrawn weights that the site got and has not said to be gone."""
        with transaction(self.engine) as session:
            rows = session.scalars(_deliveries(site).where(VersionRow.state.in_(OUT_OF_USE)))
            # Versions can share weights: a copy that another version still needs is not owed.
            weights_in_use = {version_of(row).weights for row in session.scalars(in_use())}
            return tuple(sorted({version_of(row).weights for row in rows} - weights_in_use))

    def purged(self, site: str, digests: Collection[str]) -> None:
        """A site says that it holds none of these weights any more."""
        with transaction(self.engine) as session:
            for row in session.scalars(_deliveries(site)):
                # Versions can share weights: the digest may have been owed for another version, while this one is in
                # use.
                if version_of(row).weights in digests and row.state not in {"active", "superseded"}:
                    delivery = session.get_one(DeliveryRow, (row.name, site))
                    delivery.purged = self.clock()
                    session.add(EventRow(at=delivery.purged, site=site, kind="purged", detail=row.name))

    def holds(self, site: str, digests: Collection[str]) -> None:
        """A site says that it holds these weights: what it had said to be gone is there again, and owed again."""
        purged_copies = select(DeliveryRow, VersionRow).join(VersionRow, VersionRow.name == DeliveryRow.version)

        with transaction(self.engine) as session:
            weights_in_use = {version_of(row).weights for row in session.scalars(in_use())}
            rows = session.execute(purged_copies.where(DeliveryRow.site == site, DeliveryRow.purged.is_not(None)))

            for delivery, row in rows.all():
                if version_of(row).weights in set(digests) - weights_in_use:
                    delivery.purged = None
                    session.add(EventRow(at=self.clock(), site=site, kind="held-again", detail=row.name))

    def recipients(self, name: str) -> Sequence[DeliveryRow]:
        """Who got a version, when, and since when the copy is gone."""
        with transaction(self.engine) as session:
            return session.scalars(
                select(DeliveryRow).where(DeliveryRow.version == name).order_by(DeliveryRow.site)
            ).all()

    def recipients_for(self, site: str, most: int) -> Mapping[str, Sequence[Recipient]]:
        """Who received the versions that a site received, by the digest of their weights; its newest `most` versions.

        Versions can share weights: their recipients are then one list.
        """
        recipients: dict[str, list[Recipient]] = {}
        by_version: dict[str, list[Recipient]] = defaultdict(list)
        own = select(DeliveryRow.version).where(DeliveryRow.site == site).order_by(DeliveryRow.sent.desc()).limit(most)

        with reading(self.engine) as session:
            names = session.scalars(own).all()
            versions = session.execute(
                select(VersionRow.name, VersionRow.manifest).where(VersionRow.name.in_(names)).order_by(VersionRow.name)
            ).all()
            for row in session.scalars(select(DeliveryRow).where(DeliveryRow.version.in_(names))):
                by_version[row.version].append(Recipient("hospital", row.site, row.sent, row.purged))
            for export in session.scalars(select(ExportRow).where(ExportRow.version.in_(names))):
                recipient = Recipient("export", export.recipient, export.sent, export.purged)
                by_version[export.version].append(recipient)

        for name, manifest in versions:
            recipients.setdefault(manifest["weights"], []).extend(by_version[name])

        return recipients


def _deliveries(site: str) -> Select[Any]:
    """Versions that a site got and has not said to be gone."""
    return (
        select(VersionRow)
        .join(DeliveryRow, DeliveryRow.version == VersionRow.name)
        .where(DeliveryRow.site == site, DeliveryRow.purged.is_(None))
    )
