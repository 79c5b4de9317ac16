"""How long an answer takes does not tell whether its patient is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from client.intake.fhir.endpoint import app as endpoint
from client.intake.fhir.intake import Intake


@pytest.mark.parametrize(("work", "answered"), [(0.01, 0.5), (0.03, 0.5), (0.6, 1.0)])
def test_answers_leave_at_fixed_marks_whatever_the_work_was(
    make_intake: Callable[..., Intake],
    tmp_path: Path,
    ehr: Any,
    work: float,
    answered: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intake = make_intake(tmp_path / "site")
    real = Intake.take
    # A clock that only work and waiting move: on a busy machine a real one says nothing.
    now = [0.0]

    def slow(self: Intake, *arguments: Any) -> Any:
        now[0] += work
        return real(self, *arguments)

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(endpoint, "asyncio", SimpleNamespace(sleep=sleep, timeout=asyncio.timeout))
    monkeypatch.setattr(Intake, "take", slow)
    served = endpoint.make_app(intake, None, lambda: None, intake.clock)

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://site") as http:
            answer = await http.put("/fhir/Consent/c-1", json=ehr.consent("c-1", "p-1", "inactive"))
            return answer.status_code

    assert asyncio.run(ask()) == 200
    assert now[0] == pytest.approx(answered)
