"""What the registry finds and settles after a crash or a restored database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.errors import EvidenceError
from server.registry.manifest import Manifest, check_files, manifest_digest, read_manifest
from server.registry.version_folder import (
    delete_version,
    is_version,
    number,
    remove_leftovers,
)
from server.registry.versions import Condition, Version


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found after a crash or a restored database."""

    new_versions: tuple[str, ...]
    """Whole folders without a row; they have one now."""
    leftovers: tuple[str, ...]
    """Folders that were never finished, or damaged and without a row."""
    missing: tuple[str, ...]
    """Versions whose folder should be there and is not."""


def settle_folders(
    folder: Path, versions: Iterable[Version], record: Callable[[Manifest, Condition], Version]
) -> Recovery:
    """Give whole folders of versions their rows by `record`, and remove the rest; `versions` have one.

    A folder newer than every row was about to become active, and does.
    """
    new_rows: list[str] = []
    leftovers = [*remove_leftovers(folder)]
    versions_by_name = {version.name: version for version in versions}

    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and is_version(path.name) and path.name not in versions_by_name:
            try:
                manifest = read_manifest(path)
                check_files(path, manifest, manifest_digest(path))
            except EvidenceError:
                delete_version(folder, path.name)
                leftovers.append(path.name)
                continue

            newest = all(number(path.name) > number(name) for name in (*versions_by_name, *new_rows))
            record(manifest, "active" if newest else "superseded")
            new_rows.append(path.name)

    missing = [
        v.name for v in versions_by_name.values() if v.weights_deleted is None and not (folder / v.name).is_dir()
    ]

    return Recovery(tuple(new_rows), tuple(leftovers), tuple(missing))
