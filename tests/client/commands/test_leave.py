"""A hospital leaves: all of its patients are out at once, and it must say its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from client.cli import app
from client.revocations.tombstones.overview import read_revocations


def test_a_hospital_that_leaves_withdraws_everybody_and_must_say_its_name(
    site_folder: Path, enrol: Callable[[Path, str], Path]
) -> None:
    folder = enrol(site_folder, "north")
    known = json.loads((folder / "site.json").read_text())["subsets"]
    wrong = CliRunner().invoke(app, ["leave", "--confirm", "south", "--dir", str(folder)])
    assert wrong.exit_code == 2
    assert not read_revocations(folder).tombstones
    done = CliRunner().invoke(app, ["leave", "--confirm", "north", "--dir", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["patients"] == len(known)
    found = read_revocations(folder)
    assert found.tombstones == set(known)
    assert found.pending == {patient for patient, subset in known.items() if subset == "train"}
    assert not [patient for patient in known if patient in done.output]
