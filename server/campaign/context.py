"""The coordinator's folder, opened: settings, database, campaigns, versions, keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select

from common.errors import InputError
from common.evidence.keys import SigningKey
from common.learning.model.card import ModelCard
from common.platform.keys.private_keys import load_signing_key
from common.platform.sql import open_database, transaction
from server.campaign.journal import Clock
from server.campaign.store import CampaignStore
from server.database import SiteRow, pending_migration, unsigned64
from server.membership.federation_card import federation_card
from server.registry.registry import Registry
from server.settings import ServerFolder, ServerSettings, Terms

if TYPE_CHECKING:
    from server.rounds.exchanges.signer import Signer


def utc_now() -> datetime:
    """The clock of everything that is not a test."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CoordinatorContext:
    """What the coordinator's processes share."""

    folder: ServerFolder
    settings: ServerSettings
    engine: Engine
    store: CampaignStore
    registry: Registry

    @property
    def card(self) -> ModelCard:
        """The model that `server.toml` describes.

        Raises:
            ConfigError: it names no classes, or a folder that holds no encoder that fits.
        """
        return federation_card(self.settings, str(self.folder.settings_file))

    @property
    def terms(self) -> Terms:
        """What a campaign that is planned now will hold by."""
        settings = self.settings
        return Terms(experiment=settings.experiment, policy=settings.policy, gate=settings.gate)

    def sites(self) -> list[SiteRow]:
        """All that ever enrolled, by name."""
        with transaction(self.engine) as session:
            return list(session.scalars(select(SiteRow).order_by(SiteRow.name)).all())

    def nodes(self) -> Mapping[str, int]:
        """Flower's node of each site that may take part."""
        rows = [row for row in self.sites() if row.state == "active" and row.node is not None]
        # Node ids of Flower are unsigned; the database stores the signed number of the same bits.
        return {row.name: unsigned64(row.node) for row in rows if row.node is not None}

    def signing_key(self) -> SigningKey:
        """The coordinator's own; raises as `load_signing_key`."""
        return load_signing_key(self.folder.signing_key, self.folder.passphrase)

    def signer(self) -> Signer:
        """Signs instructions, and knows the keys of the sites that may take part; raises as `open_signer`."""
        from server.rounds.exchanges.signer import open_signer  # noqa: PLC0415 - Flower, which listings do not need

        with transaction(self.engine) as session:
            return open_signer(self.folder, session)


def open_house(root: Path, clock: Clock = utc_now) -> CoordinatorContext:
    """Open the coordinator's folder.

    Raises:
        InputError: it is no such folder, a setting is wrong, or its database needs a migration, which `up` makes.
        UnavailableError: the database does not answer.
    """
    folder = ServerFolder(root)
    settings = folder.settings()
    engine = open_database(folder.database_url(settings))

    # Only `up` migrates: a command that lists something must not change the schema under a running coordinator.
    if (schema := pending_migration(engine)) is not None:
        raise InputError(
            f"the database has schema {schema}",
            where=str(root),
            remedy="after a backup, `fedforget-server up` migrates it",
        )

    return CoordinatorContext(
        folder, settings, engine, CampaignStore(engine, folder.work, clock), Registry(folder.models, engine, clock)
    )
