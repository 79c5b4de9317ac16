"""The programs in docs/examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simulations.bench.hospital.consent_hospital import ConsentHospital

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def test_the_example_of_the_consent_service_revokes_once(tmp_path: Path) -> None:
    hospital = ConsentHospital(tmp_path / "north", prefix="MRN", patients=2)
    hospital.start()
    command = [
        sys.executable, str(EXAMPLES / "revoke_over_grpc.py"), hospital.address, str(hospital.handed_to("ehr-1")),
        "--source-id", "form-1",
    ]  # fmt: skip

    try:
        said = [
            subprocess.run(command, input=patient, capture_output=True, text=True, check=False, timeout=60)
            for patient in ("MRN-0", "MRN-0", "MRN-1", "nobody")
        ]
    finally:
        hospital.stop()

    first, again, other, unknown = said
    assert first.returncode == again.returncode == 0, first.stderr
    assert "use       PERMISSION_DENIED" in first.stdout
    assert again.stdout == first.stdout.replace("\n", " (recorded before)\n", 1)
    assert "a different revocation was sent with this source_id" in other.stderr
    assert "this patient is not known here" in unknown.stderr
    assert "MRN" not in "".join(done.stdout + done.stderr for done in said)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_explains_itself(example: Path) -> None:
    done = subprocess.run([sys.executable, str(example), "--help"], capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
