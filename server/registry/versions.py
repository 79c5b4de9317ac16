"""Model versions as values, their states, and their rows in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from common.errors import InputError, RefusedError
from server.database import VersionRow
from server.registry.manifest import Manifest

Condition = Literal["active", "superseded", "quarantined", "withdrawn"]

CHANGES: Mapping[str, frozenset[str]] = {
    "active": frozenset({"superseded", "quarantined", "withdrawn"}),
    "superseded": frozenset({"quarantined", "withdrawn"}),
    # A withdrawn version can turn out to have seen a patient who revokes later.
    "withdrawn": frozenset({"quarantined"}),
    "quarantined": frozenset(),
}
"""Which states may follow which. Nothing becomes active again: a version is active from its publication on."""
OUT_OF_USE = frozenset({"quarantined", "withdrawn"})
"""States in which a version is not handed out, and whose copies are to be deleted."""


@dataclass(frozen=True, slots=True)
class Version:
    """A model version as it stands."""

    name: str
    state: Condition
    parent: str | None
    campaign: int | None
    created: datetime
    state_since: datetime
    weights_deleted: datetime | None
    manifest_digest: str
    manifest: Manifest

    @property
    def weights(self) -> str:
        """Digest of the weights, as of `state_digest`."""
        return self.manifest.weights


def version_row(session: Session, name: str) -> VersionRow:
    """The row of a version, locked until the transaction ends.

    Raises:
        InputError: there is no version of that name.
    """
    row = session.get(VersionRow, name, with_for_update=True)
    if row is None:
        raise InputError(f"there is no version {name!r}", remedy="see `fedforget-server models list`")
    return row


def check_usable(row: VersionRow) -> None:
    """Raises:
    RefusedError: the version is quarantined or withdrawn.
    """
    if row.state in OUT_OF_USE:
        raise RefusedError(f"{row.name} is {row.state} and is not handed out any more")


def in_use() -> Select[Any]:
    """Selects the versions whose weights sites may hold."""
    return select(VersionRow).where(VersionRow.state.in_(("active", "superseded")))


def version_of(row: VersionRow) -> Version:
    """A row as a value."""
    return Version(
        name=row.name,
        state=cast(Condition, row.state),
        parent=row.parent,
        campaign=row.campaign,
        created=row.created,
        state_since=row.state_since,
        weights_deleted=row.weights_deleted,
        manifest_digest=row.manifest_digest,
        manifest=Manifest.model_validate(row.manifest),
    )
