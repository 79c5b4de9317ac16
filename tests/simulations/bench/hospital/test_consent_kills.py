"""The consent service, killed twenty times while eight clients send; `make soak` kills it two hundred times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from simulations.bench.hospital.consent_kills import report, run

pytestmark = pytest.mark.integration


def test_every_acknowledged_revocation_is_there_once_whenever_the_service_is_killed(tmp_path: Path) -> None:
    outcome = run(tmp_path / "north", 20, random.Random(0))
    assert outcome.problems == ()
    assert outcome.kills == 20
    assert outcome.acknowledgements >= 40, "too few to say anything"
    assert outcome.retries > 0, "no kill hit a call"
    assert "| **problems** | **none** |" in report(outcome)
