"""A federation of made-up hospitals on disk: DICOM files and one manifest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from common.errors import ConfigError, OutputError
from simulations.synthetic.anatomy import draw_radiograph
from simulations.synthetic.dicom_writer import write_dicom
from simulations.synthetic.patients import Hospital, make_hospital, make_patient, study_severities
from simulations.synthetic.reports import write_report

COLUMNS = ("patient_id", "study_id", "image", "report", "label", "site", "view")


def write_federation(
    root: Path,
    *,
    sites: int = 4,
    patients: int = 60,
    seed: int = 0,
    image_size: int = 128,
    on_patient: Callable[[int, int], None] = lambda count, total: None,  # noqa: ARG005 - nobody looks
) -> Path:
    """Write `sites` hospitals of `patients` each under `root`; gives the path of `manifest.csv`.

    Labels are oedema 0 (none) to 3 (severe). Same arguments, same bytes. `on_patient` is told how many of all are
    written.

    Raises:
        ConfigError: a number is out of range.
        OutputError: `root` cannot be written.
    """
    for name, value, least in (("sites", sites, 1), ("patients", patients, 1), ("image_size", image_size, 32)):
        if value < least:
            raise ConfigError(f"{value} is too few", where=name, remedy=f"give {least} or more")

    if seed < 0:
        raise ConfigError("a seed cannot be negative", where="seed", remedy="give 0 or more")
    manifest = root / "manifest.csv"
    try:
        root.mkdir(parents=True, exist_ok=True)
        rows = []

        for number in range(1, sites + 1):
            hospital = make_hospital(number, np.random.default_rng([seed, number]))
            names: set[str] = set()

            for row in _write_hospital(root, hospital, number, patients, seed, image_size):
                rows.append(row)
                names.add(str(row["patient_id"]))
                on_patient((number - 1) * patients + len(names), sites * patients)

        # Last and at once: where there is a manifest, all its images are there.
        part = manifest.with_suffix(".part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

        part.replace(manifest)
    except OSError as err:
        raise OutputError(
            f"cannot write ({err.strerror})", where=str(root), remedy="choose a folder with room that you may write"
        ) from None

    return manifest


def _write_hospital(
    root: Path, hospital: Hospital, number: int, patients: int, seed: int, size: int
) -> Iterator[dict[str, str | int]]:
    (root / hospital.name).mkdir(exist_ok=True)
    for index in range(patients):
        # A generator for each patient: more patients do not change those before them.
        rng = np.random.default_rng([seed, number, index])
        patient = make_patient(index, hospital, rng)
        # The seed is in the ids, and with them in the UIDs: two federations never share a study.
        patient_id = f"{seed}-{number}-{index:04d}"

        for count, severity in enumerate(study_severities(patient, rng), start=1):
            study_id = f"{patient_id}-{count}"
            image = draw_radiograph(patient, severity, hospital, size, rng)
            path = root / hospital.name / f"{study_id}.dcm"
            write_dicom(path, image, hospital, patient, patient_id=patient_id, study_id=study_id)
            yield {
                "patient_id": patient_id,
                "study_id": study_id,
                "image": path.relative_to(root).as_posix(),
                "report": write_report(patient, severity, hospital.style, rng),
                "label": patient.label(severity),
                "site": hospital.name,
                "view": "PA",
            }
