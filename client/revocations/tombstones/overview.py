"""Revocations by the patients' own identifiers, for imports, training and the steward on site."""

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
        patients: by identifier, as far as known; of a patient's several revocations the one furthest from settled.
        tombstones: patients who must not be used.
    """

    patients: dict[str, RevocationStatus] = field(default_factory=dict, repr=False)
    tombstones: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def pending(self) -> frozenset[str]:
        """Patients whom the model must still forget."""
        return frozenset(patient for patient, standing in self.patients.items() if standing.state in TO_FORGET)

    @cached_property
    def open(self) -> frozenset[str]:
        """Patients whose data must be kept for now, because they are, or may become, pending."""
        return frozenset(patient for patient, standing in self.patients.items() if standing.state not in TERMINAL)


def has_ledger(folder: SiteFolder) -> bool:
    """Whether there is a ledger; a simulated site without revocations has none."""
    return (
        folder.has_database
        or folder.simulated_ledger.exists()
        or folder.tombstones.exists()
        or (folder.root / REVOCATIONS_FILE).exists()
    )


def read_revocations(folder: Path, patients: Collection[str] = ()) -> Overview:
    """All revocations of a site, including `patients` whose identifier the ledger has lost.

    Raises:
        InputError, UnavailableError: see `open_ledger`.
    """
    place = SiteFolder(folder)
    if not has_ledger(place):
        return Overview()
    with open_ledger(place) as ledger:
        return overview(ledger, patients)


def overview(ledger: Ledger, patients: Collection[str] = ()) -> Overview:
    """`read_revocations` for an open ledger."""
    names = {**{ledger.pseudonyms.of(patient): patient for patient in patients}, **ledger.identifiers()}
    status_by_pseudonym: dict[str, RevocationStatus] = {}
    for standing in sorted(ledger.standing(), key=_done):
        if standing.pseudonym in names:
            status_by_pseudonym.setdefault(names[standing.pseudonym], standing)

    return Overview(status_by_pseudonym, frozenset(names[p] for p in ledger.stopped() if p in names))


def cohort_lock(folder: SiteFolder) -> AbstractContextManager[None]:
    """Lock a site's cohort and revocations against other writers; works without a ledger.

    Raises:
        OutputError: the folder of the tombstones cannot be written.
    """
    return TombstoneFile(folder.tombstones, "").locked()


def _done(standing: RevocationStatus) -> tuple[int, int]:
    rank = 0 if standing.state in TO_FORGET else 1 if standing.state not in TERMINAL else 2
    return rank, -standing.number
