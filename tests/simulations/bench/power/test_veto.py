"""The power table is made with the veto itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simulations.bench.power.veto import BEFORE, PATIENTS, SITES, draw, main, vetoed


def share(sites: int, patients: int, after: tuple[float, float]) -> float:
    return vetoed(*draw(np.random.default_rng(0), (100, sites, patients), after, 0.5), patients)


def test_a_fall_to_68_percent_at_two_sites_of_20_patients_a_class_is_mostly_seen() -> None:
    assert share(2, 20, (0.68, 0.68)) > 0.8
    assert share(2, 20, (BEFORE, 0.68)) > 0.4


def test_an_unchanged_model_and_a_tolerated_loss_are_rarely_vetoed() -> None:
    assert share(2, 20, (BEFORE, BEFORE)) <= 0.02
    assert share(2, 20, (0.85, 0.85)) <= 0.1


def test_the_command_writes_a_row_for_each_number_of_sites_and_patients(tmp_path: Path) -> None:
    main(runs=1, write=tmp_path / "power.md")
    lines = (tmp_path / "power.md").read_text().splitlines()
    assert sum(line[:3].strip("| ").isdigit() for line in lines) == len(SITES) * len(PATIENTS)
