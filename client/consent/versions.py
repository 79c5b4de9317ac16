"""Which version of each consent is the last, in whatever order they arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from client.consent.documents import VersionId, read_version
from client.consent.fields import UnreadableConsentError

Resource = Mapping[str, Any]


def newest_versions(consents: Iterable[Resource]) -> list[list[Resource]]:
    """The last version of each resource; a superseded one counts for nothing, whatever it says.

    Several where none can be told to be the last: versions without an order, or two texts of one. One version that a
    server has written out twice, with another `meta`, is one, and as old as its first. What has no id, or no version
    that can be read, stands for itself beside the others.
    """
    by_id: dict[str, list[tuple[VersionId, Resource]]] = {}
    alone: list[list[Resource]] = []

    for resource in consents:
        try:
            version = read_version(resource)
        except UnreadableConsentError:
            if [resource] not in alone:
                alone.append([resource])
            continue

        versions_of_id = by_id.setdefault(version.resource, [])
        place = next(
            (i for i, (number, text) in enumerate(versions_of_id) if _is_same(version, resource, number, text)), None
        )
        if place is None:
            versions_of_id.append((version, resource))
        elif _moment(version) < _moment(versions_of_id[place][0]):
            versions_of_id[place] = version, resource

    return [*(_last(versions) for versions in by_id.values()), *alone]


def without_meta(resource: Resource) -> Resource:
    """What a consent says, without what its server says about it."""
    return {name: value for name, value in resource.items() if name != "meta"}


def _is_same(version: VersionId, resource: Resource, other: VersionId, text: Resource) -> bool:
    if resource == text:
        return True
    return version.number == other.number != "" and without_meta(resource) == without_meta(text)


def _moment(version: VersionId) -> datetime:
    return version.last_update or datetime.max.replace(tzinfo=UTC)


def _last(versions: list[tuple[VersionId, Resource]]) -> list[Resource]:
    """By number where all have one, since a server's clock may have been set back; else by time."""
    if len(versions) == 1:
        return [versions[0][1]]
    if all(version.number.isdecimal() for version, _ in versions):
        by_version = sorted(
            ((int(version.number), resource) for version, resource in versions), key=lambda pair: -pair[0]
        )
        return [resource for number, resource in by_version if number == by_version[0][0]]

    times = [(version.last_update, resource) for version, resource in versions if version.last_update is not None]
    if len(times) < len(versions):
        return [resource for _, resource in versions]
    times.sort(key=lambda pair: pair[0], reverse=True)

    return [resource for moment, resource in times if moment == times[0][0]]
