"""What the coordinator has on record about a version, as plain values for its dossier. Counts only, no persons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from common.errors import InputError
from common.platform.dossier.attacks import Figure
from server.database import CampaignRow, DeliveryRow, EventRow, ExportRow, VersionRow
from server.membership.registration import in_force
from server.registry.manifest import Metric
from server.registry.versions import OUT_OF_USE, Version, version_of

_OF_VERSIONS = ("purged", "held-again")
"""Kinds of events that name a version and no campaign."""


def predecessors(session: Session, name: str) -> list[Version]:
    """A version and all that it descends from or replaces, the newest first.

    A retrained version has no parent: the version that its campaign began from is what it replaces.

    Raises:
        InputError: there is no version of that name.
    """
    chain = [_version(session, name)]
    # A damaged record could name a version twice, and this would never end.
    while (before := _before(session, chain[-1])) is not None and before not in {one.name for one in chain}:
        chain.append(_version(session, before))

    return chain


def _version(session: Session, name: str) -> Version:
    row = session.get(VersionRow, name)
    if row is None:
        raise InputError(f"there is no version {name!r}", remedy="see `fedforget-server models list`")
    return version_of(row)


def _before(session: Session, version: Version) -> str | None:
    if version.parent is not None or version.campaign is None:
        return version.parent
    return session.get_one(CampaignRow, version.campaign).parent


def version_facts(version: Version, lineage: Sequence[Version]) -> dict[str, Any]:
    """The record of a version, and of those that it descends from or replaces."""
    return {
        "version": version.name,
        "state": version.state,
        "since": version.state_since,
        "manifest_sha256": version.manifest_digest,
        "manifest": version.manifest.model_dump(mode="json"),
        "predecessors": [
            {"version": one.name, "state": one.state, "since": one.state_since, "weights": one.weights}
            for one in lineage[1:]
        ],
    }


def recipients(session: Session, names: Collection[str]) -> list[dict[str, Any]]:
    """Who got which of these versions, and when they acknowledged that their copy is gone.

    `site` is the hospital's name, null for the recipient of an export.
    """
    rows = session.scalars(
        select(DeliveryRow).where(DeliveryRow.version.in_(names)).order_by(DeliveryRow.version, DeliveryRow.site)
    )
    exports = session.scalars(
        select(ExportRow).where(ExportRow.version.in_(names)).order_by(ExportRow.version, ExportRow.id)
    )
    hospitals = [_recipient(row, "hospital", row.site, row.site) for row in rows]

    return [*hospitals, *(_recipient(row, "export", row.recipient, None) for row in exports)]


def _recipient(row: DeliveryRow | ExportRow, kind: str, name: str, site: str | None) -> dict[str, Any]:
    return {
        "version": row.version,
        "kind": kind,
        "name": name or "not named",
        "site": site,
        "sent": row.sent,
        "deletion_acknowledged": row.purged,
    }


def deletions(lineage: Sequence[Version], copies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was deleted of this version and its ancestors: here, by acknowledgement at hospitals, and what is owed."""
    names_out_of_use = {one.name for one in lineage if one.state in OUT_OF_USE}
    due = [copy for copy in copies if copy["version"] in names_out_of_use]

    return {
        "at_the_coordinator": {
            "versions_out_of_use": len(names_out_of_use),
            "weights_deleted": sum(one.weights_deleted is not None for one in lineage),
            "versions": [
                {"version": one.name, "state": one.state, "since": one.state_since, "deleted": one.weights_deleted}
                for one in lineage
            ],
        },
        "copies_at_hospitals": _acknowledged([copy for copy in due if copy["kind"] == "hospital"]),
        "exported_copies": _acknowledged([copy for copy in due if copy["kind"] == "export"]),
        "patients_data_at_hospitals": "counted by each hospital, in leaf-access-closed.json of its own dossier",
    }


def _acknowledged(due: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    count = sum(copy["deletion_acknowledged"] is not None for copy in due)
    return {"to_be_deleted": len(due), "acknowledged": count, "not_acknowledged": len(due) - count}


def training_counts(session: Session, version: Version, answered: int | None) -> dict[str, Any]:
    """Training data of the version: studies that each hospital had registered by then."""
    sites = version.manifest.provenance.sites
    counts_in_force = in_force(session, version.created)
    counts = {site: counts_in_force.get(site) for site in sites}
    numbers = [count for count in counts.values() if count is not None]

    return {
        "version": version.name,
        "sites": [{"site": site, "train_studies": count} for site, count in counts.items()],
        # A sum that lacks a hospital would look like the whole.
        "train_studies": sum(numbers) if len(numbers) == len(counts) else None,
        "round": version.manifest.provenance.round,
        "revocations_answered": answered,
        "says": "studies that the hospital had registered with its signature; null: it had registered none by then",
    }


def events(session: Session, lineage: Sequence[Version]) -> list[dict[str, Any]]:
    """Events of the campaigns that made the version and its ancestors, and of the deletion of their copies."""
    campaigns = [one.campaign for one in lineage if one.campaign is not None]
    names = [one.name for one in lineage]
    of_copies = EventRow.kind.in_(_OF_VERSIONS) & EventRow.detail.in_(names)
    rows = session.scalars(
        select(EventRow).where(or_(EventRow.campaign.in_(campaigns), of_copies)).order_by(EventRow.id)
    )

    return [
        {"at": row.at, "campaign": row.campaign, "site": row.site, "kind": row.kind, "detail": row.detail}
        for row in rows
    ]


def figures(version: Version) -> list[Figure]:
    """The figures of the version's audit."""
    return [_figure(metric) for metric in version.manifest.provenance.metrics]


def _figure(metric: Metric) -> Figure:
    if metric.value is None or metric.low is None or metric.high is None:
        return Figure(metric.name, patients=metric.patients, missing=metric.missing or "no interval")
    value, low, high = (f"{number:.3f}" for number in (metric.value, metric.low, metric.high))
    return Figure(metric.name, value, low, high, metric.patients)
