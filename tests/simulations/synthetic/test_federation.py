import hashlib
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from common.errors import ConfigError, OutputError
from common.learning.data.imaging.dicom import read_dicom
from common.learning.data.tables.manifest import read_manifest
from common.learning.data.tokenizer import load_tokenizer
from common.learning.records import Cohort
from simulations.synthetic.anatomy import draw_radiograph
from simulations.synthetic.federation import write_federation
from simulations.synthetic.patients import make_hospital, make_patient, study_severities

SITES = 3
PATIENTS = 40
SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation")
    write_federation(folder, sites=SITES, patients=PATIENTS, image_size=SIZE)
    return folder


@pytest.fixture(scope="module")
def cohort(root: Path) -> Cohort:
    return read_manifest(root / "manifest.csv").cohort


@pytest.fixture(scope="module")
def pixels(cohort: Cohort) -> np.ndarray:
    """Radiographs as displayed, `[n, 24 * 24]` in 0 to 1."""
    shown = (Image.fromarray(read_dicom(s.image)).resize((24, 24), Image.Resampling.BOX) for s in cohort.studies)
    return np.stack([np.asarray(image, dtype=np.float64).ravel() / 255.0 for image in shown])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_images(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_federation(tmp_path / name, sites=2, patients=3, seed=seed, image_size=32)
    one = digests(tmp_path / "one")
    assert one == digests(tmp_path / "again")
    assert not set(one.values()) & set(digests(tmp_path / "other").values())


def test_the_manifest_is_read_with_its_sites_patients_and_labels(cohort: Cohort) -> None:
    assert cohort.sites == ("site-1", "site-2", "site-3")
    assert len(cohort.patients) == SITES * PATIENTS
    assert cohort.classes == ("0", "1", "2", "3")
    per_patient = np.unique([s.patient for s in cohort.studies], return_counts=True)[1]
    assert set(per_patient) == {1, 2, 3, 4}
    assert 1.7 < per_patient.mean() < 2.4


def test_files_are_12_bit_dicom_with_their_own_uids_and_both_photometric_interpretations(cohort: Cohort) -> None:
    files = [dcmread(s.image) for s in cohort.studies]
    assert {(f.BitsStored, f.BitsAllocated, f.Rows, f.Columns) for f in files} == {(12, 16, SIZE, SIZE)}
    assert all(int(f.pixel_array.max()) < 2**12 for f in files)
    assert len({f.SOPInstanceUID for f in files}) == len({f.StudyInstanceUID for f in files}) == len(files)
    assert all(f.SOPInstanceUID.is_valid for f in files)
    assert {f.PhotometricInterpretation for f in files} == {"MONOCHROME1", "MONOCHROME2"}


def test_files_name_their_window_orientation_and_pixel_size(cohort: Cohort) -> None:
    for file in (dcmread(s.image) for s in cohort.studies):
        inverted = file.PhotometricInterpretation == "MONOCHROME1"
        assert file.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
        assert list(file.PatientOrientation) == ["L", "F"]
        assert file.ImagerPixelSpacing == [400 / SIZE, 400 / SIZE]
        assert file.WindowWidth > 0
        assert 0 < file.WindowCenter < 2**12


def test_the_lead_letter_is_at_the_patients_left_shoulder(cohort: Cohort) -> None:
    for site in cohort.sites:
        images = [read_dicom(s.image).astype(float) for s in cohort.studies if s.site == site]
        corner = np.mean(images, axis=0)[: SIZE // 6]
        assert corner[:, -SIZE // 8 :].max() > corner[:, : SIZE // 8].max() + 60


def test_air_is_dark_and_the_middle_is_bright_at_every_hospital(cohort: Cohort, pixels: np.ndarray) -> None:
    images = pixels.reshape(-1, 24, 24)
    for site in cohort.sites:
        at = [s.site == site for s in cohort.studies]
        assert images[at][:, 18:, :2].mean() + 0.2 < images[at][:, 14:18, 11:13].mean()


def test_reports_fit_the_default_length_and_the_builtin_vocabulary(cohort: Cohort) -> None:
    ids, mask = load_tokenizer("builtin", 65).encode([s.report for s in cohort.studies])
    assert mask.sum(1).max() <= 64
    assert 1 not in ids


def test_severity_is_above_chance_from_image_and_from_text(cohort: Cohort, pixels: np.ndarray) -> None:
    labels = [s.label for s in cohort.studies]
    groups = [s.patient for s in cohort.studies]
    words = CountVectorizer(binary=True).fit_transform([s.report for s in cohort.studies])
    from_image = make_pipeline(PCA(30, random_state=0), LogisticRegression(C=1.0, max_iter=2000))
    from_text = LogisticRegression(C=0.3, max_iter=2000)
    for model, features in ((from_image, pixels), (from_text, words)):
        predicted = cross_val_predict(model, features, labels, groups=groups, cv=GroupKFold(4))
        assert 0.4 < balanced_accuracy_score(labels, predicted) < 0.9  # chance is 0.25, and errors are recorded


def test_some_patients_have_a_label_that_cannot_be_seen() -> None:
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hospital = make_hospital(1, rng)
        people = [make_patient(n, hospital, rng) for n in range(60)]
        shares += [all(p.label(v) != v for v in study_severities(p, rng)) for p in people]

    assert 0.15 < np.mean(shares) < 0.21


def test_a_patient_looks_more_like_himself_than_like_others(cohort: Cohort, pixels: np.ndarray) -> None:
    own: list[float] = []
    others: list[float] = []

    for site in cohort.sites:
        at = [i for i, s in enumerate(cohort.studies) if s.site == site]
        for i, j in combinations(at, 2):
            same = cohort.studies[i].patient == cohort.studies[j].patient
            (own if same else others).append(float(np.abs(pixels[i] - pixels[j]).mean()))

    assert np.mean(own) < 0.75 * np.mean(others)


def test_ribs_and_vessels_are_the_patients_own_and_not_the_studys() -> None:
    hospital = make_hospital(1, np.random.default_rng(0))
    patient = make_patient(0, hospital, np.random.default_rng(0))
    other = replace(patient, anatomy=patient.anatomy + 1)
    # One seed: the same posture, haze and noise.
    one, two = (draw_radiograph(p, 1, hospital, 64, np.random.default_rng(1)) for p in (patient, other))
    assert np.abs(one - two).mean() > 0.01


def test_a_patient_keeps_his_history_in_all_reports(root: Path, cohort: Cohort) -> None:
    reports = defaultdict(list)
    for study in cohort.studies:
        age = int(str(dcmread(study.image, stop_before_pixels=True).PatientAge)[:3])
        reports[study.patient].append(f"{age} year old" in study.report)

    assert all(all(kept) for kept in reports.values())


def test_hospitals_differ_in_severity_and_style(cohort: Cohort) -> None:
    studies = [[s for s in cohort.studies if s.site == site] for site in cohort.sites]
    assert np.mean([s.label for s in studies[1]]) > np.mean([s.label for s in studies[0]]) + 0.3
    assert all(s.report.startswith("HISTORY") for s in studies[0])
    assert not any(s.report.startswith("HISTORY") for s in studies[1])


@pytest.mark.parametrize("wrong", [{"sites": 0}, {"patients": 0}, {"image_size": 8}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        write_federation(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_federation(tmp_path / "file", sites=1, patients=1, image_size=32)


def test_a_federation_that_could_not_be_finished_has_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "site-2").write_text("in the way")
    with pytest.raises(OutputError):
        write_federation(tmp_path, sites=2, patients=1, image_size=32)
    assert any((tmp_path / "site-1").iterdir())
    assert not (tmp_path / "manifest.csv").exists()
