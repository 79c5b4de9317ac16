"""Model versions: folders of weights with a record in the database that outlives them.

A version is a folder `v0001` with `model.safetensors`, `model.json` and `manifest.json`. It appears by one rename,
and counts once its row is written; `Registry.recover` settles what a crash left between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common.errors import EvidenceError, InputError, RefusedError
from common.learning.model.card import ModelCard
from common.platform.sql import transaction
from server.database import CampaignRow, EventRow, VersionRow
from server.registry.deliveries import Deliveries
from server.registry.exports import Exports
from server.registry.manifest import Manifest, Provenance, check_files, manifest_digest
from server.registry.model_card import write_export
from server.registry.recovery import Recovery, settle_folders
from server.registry.version_folder import (
    delete_version,
    next_name,
    write_version,
)
from server.registry.versions import CHANGES, Condition, Version, check_usable, in_use, version_of, version_row

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Registry:
    """All versions of one coordinator."""

    folder: Path
    engine: Engine
    clock: Callable[[], datetime]

    @property
    def deliveries(self) -> Deliveries:
        """Which site got which version."""
        return Deliveries(self.engine, self.clock)

    @property
    def exports(self) -> Exports:
        """Who got which version by export."""
        return Exports(self.engine, self.clock)

    def publish(
        self,
        state: Mapping[str, Tensor],
        card: ModelCard,
        *,
        parent: str | None,
        campaign: int | None,
        provenance: Provenance,
    ) -> Version:
        """Make a new version the active one; the one before is superseded in the same transaction.

        Called again for a campaign with the same weights, it returns what was published the first time.

        Raises:
            OutputError: the folder cannot be written or the disk is full; nothing is left of the version then.
            InputError: the parent is unknown.
            SQLAlchemyError: the database failed; the folder is left to the next call or to `recover`.
        """
        from common.learning.model.checkpoint import state_digest  # noqa: PLC0415 - torch, which listings do not need

        # Where the database failed after the folder was written, the folder is the version that is wanted now.
        self.recover()
        digest = state_digest(state)
        if campaign is not None and (earlier := self._published(campaign, digest)) is not None:
            return earlier
        # Before anything is written.
        if parent is not None:
            self.get(parent)
        creation_time = self.clock()
        name = next_name(self.folder, (version.name for version in self.versions()))
        manifest = write_version(
            self.folder,
            name,
            state,
            card,
            created=creation_time,
            parent=parent,
            campaign=campaign,
            provenance=provenance,
        )

        try:
            return self._record(manifest, "active")
        except IntegrityError:
            # Another process recovered between the folder and its row.
            version = self.get(name)
            if version.manifest != manifest:
                raise
            return version

    def active(self) -> Version | None:
        """The version in use."""
        with transaction(self.engine) as session:
            row = session.scalars(select(VersionRow).where(VersionRow.state == "active")).first()
            return None if row is None else version_of(row)

    def get(self, name: str) -> Version:
        """One version.

        Raises:
            InputError: there is none of that name.
        """
        with transaction(self.engine) as session:
            return version_of(version_row(session, name))

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with transaction(self.engine) as session:
            rows = session.scalars(select(VersionRow).order_by(VersionRow.created, VersionRow.name))
            return [version_of(row) for row in rows]

    def lineage(self, name: str) -> list[Version]:
        """A version, its parent, its parent's parent and so on."""
        chain = [self.get(name)]
        while (parent := chain[-1].parent) is not None:
            chain.append(self.get(parent))
        return chain

    def verify(self, name: str) -> Version:
        """Compare every byte of a version with its record.

        Raises:
            EvidenceError: a file is missing, changed, or does not belong there.
            InputError: unknown, or its weights were deleted.
        """
        version = self.get(name)

        if version.weights_deleted is not None:
            raise InputError(
                f"the weights of {name} were deleted on {version.weights_deleted:%Y-%m-%d}",
                where=str(self.folder),
                remedy="only its record is left",
            )

        check_files(self.folder / name, version.manifest, version.manifest_digest)

        return version

    def load(self, name: str) -> State:
        """Weights of a version, verified.

        Raises:
            EvidenceError: a byte changed.
            InputError: unknown, or its weights were deleted.
        """
        from common.learning.model.checkpoint import load_checkpoint, state_digest  # noqa: PLC0415 - see `publish`

        version = self.verify(name)

        state, _ = load_checkpoint(self.folder / name)
        if state_digest(state) != version.weights:
            raise EvidenceError(f"{name}: the weights do not have the digest of the record")
        return state

    def card(self, name: str) -> ModelCard:
        """What the weights of a version belong to; raises as `load`."""
        self.verify(name)
        return ModelCard.model_validate_json((self.folder / name / "model.json").read_bytes())

    def quarantine(self, names: Collection[str], reason: str) -> None:
        """Take versions that saw a revoked patient out of use for good; those that are so already stay as they are.

        The versions to take are the `lineage` of the campaign's parent. Give all of them at once: it is one
        transaction.
        """
        with transaction(self.engine) as session:
            for name in sorted(names):
                if version_row(session, name).state != "quarantined":
                    self._change(session, name, "quarantined", reason)

    def withdraw(self, name: str, reason: str) -> None:
        """Take a version out of use without having another; its hospitals delete their copies at their next call.

        Raises:
            InputError: there is no such version, or no reason.
            RefusedError: it is quarantined or withdrawn already.
        """
        # It becomes a line of the log.
        reason = " ".join(reason.split())
        if not reason:
            raise InputError("no reason", where="--reason", remedy="say why; the reason is recorded")

        with transaction(self.engine) as session:
            self._change(session, name, "withdrawn", reason)

    def collect(self, now: datetime, days: float) -> tuple[str, ...]:
        """Delete the weights of versions that have not been in use for `days`; their records stay."""
        old = [
            version
            for version in self.versions()
            if version.state != "active"
            and version.weights_deleted is None
            and version.state_since <= now - timedelta(days=days)
        ]

        for version in old:
            # Files first: a row that says they are gone must be true, one that does not is tried again.
            delete_version(self.folder, version.name)
            with transaction(self.engine) as session:
                version_row(session, version.name).weights_deleted = now
                session.add(EventRow(at=now, campaign=version.campaign, kind="weights-deleted", detail=version.name))

        return tuple(version.name for version in old)

    def export(self, name: str, folder: Path, recipient: str = "", *, onnx: bool = False) -> Path:
        """Write a version to a new folder that plain torch and safetensors load, with a model card.

        It is on record as a delivery to `recipient` before a file is written.

        Raises:
            InputError: the recipient's name is not one printable line.
            ConfigError: ONNX is asked for, and the extra is not installed.
            RefusedError: it is quarantined or withdrawn.
            EvidenceError: a byte changed.
            OutputError: the folder exists or cannot be written.
        """
        with transaction(self.engine) as session:
            check_usable(version_row(session, name))
        version = self.verify(name)
        # The state of the ancestors too: the reader of a model card sees that one was quarantined.
        chain = [f"{v.name} ({v.state})" for v in self.lineage(name)]
        card = self.card(name)

        with self.exports.recorded(name, recipient):
            return write_export(self.folder / name, version.manifest, card, chain, folder, onnx=onnx)

    def recover(self) -> Recovery:
        """After a crash, or when the database was restored: give whole folders their rows, remove the rest.

        A folder newer than every row was about to become active, and does.
        """
        return settle_folders(self.folder, self.versions(), self._record)

    def _record(self, manifest: Manifest, state: Condition) -> Version:
        """Write the row of a folder that is in its place."""
        now = self.clock()

        with transaction(self.engine) as session:
            if state == "active":
                for row in session.scalars(in_use().where(VersionRow.state == "active").with_for_update()):
                    row.state = "superseded"
                    row.state_since = now

            # A restored database may not know the parent or the campaign yet; the manifest always names them.
            parent = manifest.parent if manifest.parent and session.get(VersionRow, manifest.parent) else None
            campaign = manifest.campaign if manifest.campaign and session.get(CampaignRow, manifest.campaign) else None
            row = VersionRow(
                name=manifest.name,
                state=state,
                parent=parent,
                campaign=campaign,
                manifest_digest=manifest_digest(self.folder / manifest.name),
                created=manifest.created,
                state_since=now,
                weights_deleted=None,
                manifest=manifest.model_dump(mode="json"),
            )
            session.add(row)
            session.add(EventRow(at=now, campaign=campaign, kind="published", detail=manifest.name))

            return version_of(row)

    def _change(self, session: Session, name: str, state: Condition, reason: str) -> None:
        row = version_row(session, name)
        if state not in CHANGES[row.state]:
            raise RefusedError(f"{name} is {row.state} and cannot become {state}")
        row.state = state
        row.state_since = self.clock()
        detail = f"{name}: {reason}"
        session.add(EventRow(at=row.state_since, campaign=row.campaign, kind=f"version-{state}", detail=detail))

    def _published(self, campaign: int, digest: str) -> Version | None:
        with transaction(self.engine) as session:
            rows = session.scalars(select(VersionRow).where(VersionRow.campaign == campaign))
            return next((v for v in map(version_of, rows) if v.weights == digest), None)
