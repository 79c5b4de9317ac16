"""Which patients of the cohort the ids of the hospital's FHIR server mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import ManifestError
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.learning.data.identifiers.look_alikes import LookAlikes
from common.learning.data.tables.table import Problems, read_table

COLUMNS = ("fhir_patient", "patient_id")


@dataclass(frozen=True, slots=True)
class PatientMap:
    """Ids of the cohort by ids of the FHIR server; None if both are the same."""

    by_key: Mapping[str, str] | None = field(default=None, repr=False)
    _keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _alike: dict[str, tuple[LookAlikes, Mapping[str, list[str]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By system; made when first asked, as it takes a while for a large hospital."""

    def normal(self, key: str) -> str:
        """The key under which a patient's consents are gathered; without a map, an identifier's system is left out."""
        return key if self.by_key is not None else key.rpartition("|")[2]

    def cohort_id(self, key: str) -> str | None:
        """The patient's id in the cohort; None if the map does not name them."""
        return key if self.by_key is None else self.by_key.get(key)

    def keys(self, cohort_id: str) -> tuple[str, ...]:
        """All keys of one patient: records that were merged are rows of the map with one `patient_id`."""
        return (cohort_id,) if self.by_key is None else self._keys.get(cohort_id, ())

    def alike(self, key: str) -> frozenset[str]:
        """Patients of the cohort whose key in the map looks like `key` and is not the same: a person has to say.

        Only numbers of one system are compared: two systems may give the same number to two patients.
        """
        if self.by_key is None or key in self.by_key:
            return frozenset()
        if not self._alike:
            self._alike.update(_by_system(self.by_key))
        system, value = _split(key)
        if system not in self._alike:
            return frozenset()
        values, patients = self._alike[system]

        return frozenset(patient for one in (value, *values.of(value)) for patient in patients.get(one, ()))


def read_patient_map(path: Path) -> PatientMap:
    """Read a CSV with `fhir_patient` (a logical id, or `system|value`) and `patient_id`.

    Raises:
        ManifestError: missing, malformed, an empty value, or one FHIR patient twice.
    """
    table = read_table(path, COLUMNS)
    problems = Problems()
    by_key = dict[str, str]()
    keys = defaultdict[str, list[str]](list)

    for line, row in table:
        key = _normal_key(row["fhir_patient"])
        patient = problems.identifier(row["patient_id"], "patient_id", table.place(line))

        if not key or not patient:
            problems.add(ManifestError("an empty value", where=table.place(line), remedy="fill it in"))
        elif by_key.setdefault(key, patient) != patient:
            problems.add(
                ManifestError(
                    "one FHIR patient is mapped to two patients of the cohort",
                    where=table.place(line),
                    remedy="remove one of the rows",
                )
            )
        else:
            keys[patient].append(key)

    problems.raise_any()

    return PatientMap(by_key, {patient: tuple(own_keys) for patient, own_keys in keys.items()})


def _normal_key(key: str) -> str:
    """With the value in the form in which that of a consent arrives."""
    system, bar, value = key.rpartition("|")
    try:
        return f"{system.strip()}{bar}{normal(value, shortened=True)}"
    except IdentifierError:
        return key


def _split(key: str) -> tuple[str, str]:
    """The system, however it is spelled, and the value; a logical id and a value without a system have none."""
    system, _, value = key.rpartition("|")
    system_text = system.strip().casefold().rstrip("/").replace("https://", "http://", 1)
    return system_text.removeprefix("urn:oid:"), value


def _by_system(by_key: Mapping[str, str]) -> dict[str, tuple[LookAlikes, Mapping[str, list[str]]]]:
    systems = defaultdict[str, dict[str, list[str]]](dict)
    for key, patient in by_key.items():
        system, value = _split(key)
        systems[system].setdefault(value, []).append(patient)

    return {system: (LookAlikes(patients), patients) for system, patients in systems.items()}


class PatientMapFile:
    """The map as it stands on disk; read again only when the file is another one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._found = PatientMap()

    def now(self) -> PatientMap:
        """Read anew if need be.

        Raises:
            ManifestError: see `read_patient_map`.
        """
        if self._path is None:
            return self._found
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = None

        # A file that is gone is read all the same, as reading says what is wrong.
        if stamp is None or stamp != self._seen:
            self._found = read_patient_map(self._path)
            self._seen = stamp

        return self._found
