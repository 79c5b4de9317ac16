"""How long an answer takes does not tell whether its patient is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.intake.fhir.endpoint import app as endpoint
from client.intake.fhir.intake import Intake


@pytest.mark.parametrize("work", [0.0, 0.03])
def test_answers_leave_at_fixed_marks_whatever_the_work_was(
    make_intake: Callable[..., Intake], tmp_path: Path, ehr: Any, work: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = make_intake(tmp_path / "site")
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.5)
    real = Intake.take

    def slow(self: Intake, *arguments: Any) -> Any:
        time.sleep(work)
        return real(self, *arguments)

    monkeypatch.setattr(Intake, "take", slow)
    served = endpoint.make_app(intake, None, lambda: None, intake.clock)

    async def ask() -> float:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://site") as http:
            begun = time.monotonic()
            answer = await http.put("/fhir/Consent/c-1", json=ehr.consent("c-1", "p-1", "inactive"))
            assert answer.status_code == 200
            return time.monotonic() - begun

    taken = asyncio.run(ask())
    assert 0.5 <= taken < 0.5 + 0.4 or 1.0 <= taken < 1.4
