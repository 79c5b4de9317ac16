"""The patients whom a site knows: which set they are in, and which patient an identifier names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from common.errors import CohortError
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.learning.data.identifiers.look_alikes import LookAlikes
from common.learning.records import Subset

_SITE_FILE = "site.json"


class _Known(BaseModel):
    subsets: dict[str, Subset]


@dataclass(frozen=True, slots=True)
class NamedPatient:
    """The patient that an identifier names.

    Attributes:
        identifier: the cohort's spelling if the patient is known, else the normal form.
        is_known: whether it names a patient of the site.
        alike: patients of the site whom it may mean; a person must say which, or none.
    """

    identifier: str = field(repr=False)
    is_known: bool
    alike: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_doubtful(self) -> bool:
        """Whether a person must say who is meant."""
        return bool(self.alike)


def known_patients(folder: Path) -> dict[str, Subset]:
    """Patients whom the site has, or had, in one of its sets.

    Raises:
        CohortError: no data was imported, or the file is damaged.
    """
    try:
        return _Known.model_validate_json((folder / _SITE_FILE).read_bytes()).subsets
    except (OSError, ValidationError):  # do not chain: its text could quote a report
        raise CohortError(
            "no data were imported here", where=str(folder), remedy="run fedforget-site data import"
        ) from None


class KnownPatients:
    """The patients in the current file, which is read again only after a change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._found: Mapping[str, Subset] = {}
        self._spelled: Mapping[str, str] | None = None
        self._alike: LookAlikes | None = None

    def now(self, *, nobody_yet: bool = False) -> Mapping[str, Subset]:
        """Read the file again if it has changed; with `nobody_yet` a site without data knows nobody.

        Raises:
            CohortError: see `known_patients`.
        """
        try:
            status = os.stat(self._folder / _SITE_FILE)
        except FileNotFoundError:
            # A site that is being set up has no data yet, and may receive revocations all the same.
            if nobody_yet:
                return {}
            return known_patients(self._folder)
        except OSError:
            # A disk that is away for a moment must not make everybody a stranger.
            return known_patients(self._folder)

        # Replacing the file gives another inode, also where time and size happen to be the same.
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._seen:
            self._found = known_patients(self._folder)
            self._seen = stamp
            self._spelled = None
            self._alike = None

        return self._found

    def named(self, identifier: str, *, exact: bool = False) -> NamedPatient:
        """The patient that an identifier names; `exact` ignores look-alikes. A site without data knows nobody.

        Raises:
            IdentifierError: it is malformed.
            CohortError: see `known_patients`.
        """
        return self._named(identifier, self.now(nobody_yet=True), exact=exact)

    def named_all(self, identifiers: Iterable[str], *, exact: bool = False) -> Iterator[NamedPatient]:
        """`named` for each of many, who are compared with the same patients."""
        cohort_now = self.now(nobody_yet=True)
        for identifier in identifiers:
            yield self._named(identifier, cohort_now, exact=exact)

    def _named(self, identifier: str, found: Mapping[str, Subset], *, exact: bool) -> NamedPatient:
        if identifier in found:  # an exact match, even if an older version wrote another form
            return NamedPatient(identifier, is_known=True)
        form = normal(identifier, shortened=True)
        if self._spelled is None:
            self._spelled = _by_normal_form(found)
        if form in found or form in self._spelled:
            return NamedPatient(self._spelled.get(form, form), is_known=True)
        if exact:
            return NamedPatient(form, is_known=False)
        # Only now: comparing spellings with a whole cohort is costly, and most identifiers are known.
        if self._alike is None:
            self._alike = LookAlikes(found)
        return NamedPatient(form, is_known=False, alike=self._alike.of(form))


def _by_normal_form(identifiers: Mapping[str, Subset]) -> dict[str, str]:
    """Identifiers that an older version wrote in a form other than the normal one."""
    cohort_now = {}

    for identifier in identifiers:
        try:
            form = normal(identifier, shortened=True)
        except IdentifierError:
            continue

        if form != identifier and form not in identifiers:
            cohort_now[form] = identifier

    return cohort_now
