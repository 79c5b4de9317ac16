"""Hospitals whose consent service runs in a process of its own, and patients of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulations.bench.hospital.consent_hospital import ConsentHospital

SECRET = "MRN-0815-MUELLER"
PATIENTS = 100


@pytest.fixture(scope="module")
def patient() -> Callable[[], str]:
    """The next patient whom no test of the module has had."""
    numbers = iter(range(PATIENTS))
    return lambda: f"{SECRET}-{next(numbers)}"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentHospital]:
    """One that runs, for tests that do not mind each other."""
    one = ConsentHospital(tmp_path_factory.mktemp("site") / "north", prefix=SECRET, patients=PATIENTS)
    one.start()
    yield one
    assert one.stop() == 0, one.logged()


@pytest.fixture
def new_hospital(tmp_path: Path) -> Iterator[Callable[..., ConsentHospital]]:
    """Make further ones, with settings; they are stopped at the end."""
    made: list[ConsentHospital] = []

    def make(service: str = "", site: str = "") -> ConsentHospital:
        place = tmp_path / f"north-{len(made)}"
        made.append(ConsentHospital(place, prefix=SECRET, patients=PATIENTS, service=service, site=site))
        return made[-1]

    yield make
    for one in made:
        one.stop()
