"""Who is trained on and who revokes, from a manifest of made-up hospitals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from client.cohort.site import Site
from common.errors import CohortError
from common.learning.records import Subset
from common.settings import parse
from simulations.run.prepare import Prepared, prepare
from simulations.run.settings import SimulationConfig
from simulations.synthetic.federation import write_federation


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_federation(tmp_path_factory.mktemp("made-up"), sites=3, patients=20, seed=5, image_size=48)


def known_at_two_sites(manifest: Path) -> tuple[Path, str]:
    """A copy in which a patient of site-2 is one of site-1, and that patient."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first, second = (next(r["patient_id"] for r in rows if r["site"] == site) for site in ("site-1", "site-2"))
    path = manifest.parent / "shared.csv"

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**r, "patient_id": first if r["patient_id"] == second else r["patient_id"]} for r in rows)

    return path, first


def prepared(manifest: Path, out: Path, **changes: object) -> Prepared:
    values = {"experiment": {"data": {"image_size": 32}}, "manifest": str(manifest), "sites": "natural", **changes}
    return prepare(parse(SimulationConfig, values, "test"), out, lambda *_: None)


@pytest.mark.parametrize("seed", range(3))
def test_patients_known_at_two_sites_are_trained_on_and_revoke_at_both(
    manifest: Path, tmp_path: Path, seed: int
) -> None:
    path, patient = known_at_two_sites(manifest)
    experiment = {"data": {"image_size": 32}, "seed": seed}
    sites = {"forget": 6, "forget_sites": ["site-1", "site-2"]}
    found = prepared(path, tmp_path, experiment=experiment, forget_shared=True, **sites)
    assert {name: len(patients) for name, patients in found.forget.items()} == {"site-1": 3, "site-2": 3}
    for name in ("site-1", "site-2"):
        assert patient in found.forget[name]
        assert set(found.forget[name]) <= Site(found.site_folder(name)).patients(Subset.TRAIN)


def test_asking_for_patients_of_several_sites_where_there_are_none_is_an_error(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no patient is known at several sites"):
        prepared(manifest, tmp_path, forget_shared=True)
    assert not (tmp_path / "sites").exists()
