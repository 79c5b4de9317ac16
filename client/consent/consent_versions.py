"""Which version of each consent is the last, in whatever order they arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from client.consent.consent_document import UnreadableConsentError, VersionId, read_version


def newest_versions(consents: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last version of each resource; a superseded one counts for nothing, whatever it says.

    Raises:
        UnreadableConsentError: versions that cannot be ordered, or two texts of one version.
    """
    by_id: dict[str, list[tuple[VersionId, Mapping[str, Any]]]] = {}
    for resource in consents:
        version = read_version(resource)
        known = by_id.setdefault(version.resource, [])
        if all(resource != other for _, other in known):
            known.append((version, resource))
    return [_last(versions) for versions in by_id.values()]


def _last(versions: list[tuple[VersionId, Mapping[str, Any]]]) -> Mapping[str, Any]:
    """By number where all have one, since a server's clock may have been set back; else by time."""
    if len(versions) == 1:
        return versions[0][1]
    if all(version.number.isdecimal() for version, _ in versions):
        ordered = sorted(((int(version.number), resource) for version, resource in versions), key=lambda pair: -pair[0])
        if ordered[0][0] > ordered[1][0]:
            return ordered[0][1]
    else:
        times = [(version.updated, resource) for version, resource in versions if version.updated is not None]
        times.sort(key=lambda pair: pair[0], reverse=True)
        if len(times) == len(versions) and times[0][0] > times[1][0]:
            return times[0][1]
    raise UnreadableConsentError("versions of which none can be told to be the last")
