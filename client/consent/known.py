"""Whom a site knows: the part of `site.json` that says who is in which set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from common.errors import CohortError
from common.records import Subset

_SITE_FILE = "site.json"


class _Known(BaseModel):
    subsets: dict[str, Subset]


def known_patients(folder: Path) -> dict[str, Subset]:
    """Whom the site has, or had, in one of its sets.

    Raises:
        CohortError: no data was imported, or the file is damaged.
    """
    try:
        return _Known.model_validate_json((folder / _SITE_FILE).read_bytes()).subsets
    except (OSError, ValidationError):  # its text could quote a report
        raise CohortError("no imported data here", where=str(folder), remedy="run fedforget-site data import") from None


class KnownPatients:
    """They as the file stands now; it is read again only when it is another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._found: Mapping[str, Subset] = {}

    def now(self, *, nobody_yet: bool = False) -> Mapping[str, Subset]:
        """Read anew if need be; with `nobody_yet` a site without data knows nobody.

        Raises:
            CohortError: see `known_patients`.
        """
        try:
            status = os.stat(self._folder / _SITE_FILE)
        except OSError:
            if nobody_yet:
                return {}
            return known_patients(self._folder)
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._seen:
            self._found, self._seen = known_patients(self._folder), stamp
        return self._found
