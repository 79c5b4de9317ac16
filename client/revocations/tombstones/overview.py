"""Revocations by the patients' own identifiers, as imports, training and the steward's screen need them on site."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import TERMINAL, TO_FORGET, RevocationStatus
from client.revocations.tombstones.earlier_records import REVOCATIONS_FILE
from client.revocations.tombstones.file import TombstoneFile
from client.settings import SiteFolder


@dataclass(frozen=True)
class Overview:
    """All of a site's revocations.

    Attributes:
        patients: by identifier, as far as they are known; of several of one patient the one that is furthest from done.
        tombstones: who must not be used.
    """

    patients: dict[str, RevocationStatus] = field(default_factory=dict, repr=False)
    tombstones: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def pending(self) -> frozenset[str]:
        """Those whom the model has still to forget."""
        return frozenset(patient for patient, standing in self.patients.items() if standing.state in TO_FORGET)

    @cached_property
    def open(self) -> frozenset[str]:
        """Those of whom nothing may be deleted yet, as they are, or may come to be, pending."""
        return frozenset(patient for patient, standing in self.patients.items() if standing.state not in TERMINAL)


def has_ledger(folder: SiteFolder) -> bool:
    """Whether anything was ever recorded here, or could be: a simulated site without revocations has no ledger."""
    return (
        folder.has_database
        or folder.simulated_ledger.exists()
        or folder.tombstones.exists()
        or (folder.root / REVOCATIONS_FILE).exists()
    )


def read_revocations(folder: Path, patients: Collection[str] = ()) -> Overview:
    """All revocations of a site; among `patients`, also those whose identifier the ledger has lost.

    Raises:
        InputError, UnavailableError: see `open_ledger`.
    """
    place = SiteFolder(folder)
    if not has_ledger(place):
        return Overview()
    with open_ledger(place) as ledger:
        return overview(ledger, patients)


def overview(ledger: Ledger, patients: Collection[str] = ()) -> Overview:
    """`read_revocations` of an open ledger."""
    names = {**{ledger.pseudonyms.of(patient): patient for patient in patients}, **ledger.identifiers()}
    found: dict[str, RevocationStatus] = {}
    for standing in sorted(ledger.standing(), key=_done):
        if standing.pseudonym in names:
            found.setdefault(names[standing.pseudonym], standing)

    return Overview(found, frozenset(names[p] for p in ledger.stopped() if p in names))


def cohort_lock(folder: SiteFolder) -> AbstractContextManager[None]:
    """Hold a site's cohort and its revocations together against other writers; the ledger need not be there.

    Raises:
        OutputError: the folder of the tombstones cannot be written.
    """
    return TombstoneFile(folder.tombstones, "").locked()


def _done(standing: RevocationStatus) -> tuple[int, int]:
    rank = 0 if standing.state in TO_FORGET else 1 if standing.state not in TERMINAL else 2
    return rank, -standing.number
