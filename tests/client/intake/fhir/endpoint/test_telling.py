"""Receipts of withdrawals do not let anybody try out names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.intake.enumerations import read_enumerations
from client.intake.fhir.endpoint.app import make_app
from client.intake.fhir.endpoint.telling import FHIR_CLIENTS, Telling
from client.intake.fhir.intake import Intake

TOKEN = b"t" * 32


class Sender:
    """A system of the hospital that hands in withdrawals."""

    def __init__(self, intake: Intake, ehr: Any) -> None:
        self._ehr = ehr
        app = make_app(intake, TOKEN, lambda: None, intake.clock, Telling(intake.clock, 3, 1))
        self._way = httpx.ASGITransport(app)
        self._sent = 0

    def withdraw(self, patient: dict[str, Any]) -> httpx.Response:
        self._sent += 1
        name = f"c-{self._sent}"
        content = self._ehr.write({**self._ehr.consent(name, "x", "inactive"), "patient": patient})

        async def put() -> httpx.Response:
            headers = {"authorization": f"Bearer {TOKEN.decode()}"}
            async with httpx.AsyncClient(transport=self._way, base_url="http://site", headers=headers) as http:
                return await http.put(f"/fhir/Consent/{name}", json=content)

        return asyncio.run(put())

    def names(self, patient: str) -> set[str]:
        answer = self.withdraw({"reference": f"Patient/{patient}"})
        return {parameter["name"] for parameter in answer.json()["parameter"]}


def test_after_many_unknown_people_receipts_give_no_numbers_about_anybody(
    make_intake: Callable[..., Intake], tmp_path: Path, ehr: Any
) -> None:
    intake = make_intake(tmp_path / "site")
    clock: Any = intake.clock
    sender = Sender(intake, ehr)
    assert "known" in sender.names("p-0")
    for number in range(3):
        assert "unknown" in sender.names(f"stranger-{number}")

    for patient in ("stranger-9", "p-1", "P-2"):
        assert sender.names(patient) == {"receipt", "received"}
    assert all(map(intake.ledger.is_stopped, ("p-0", "p-1", "p-2")))
    clock.now += timedelta(hours=1)
    assert "known" in sender.names("p-3")


@pytest.mark.parametrize("spent", [False, True])
def test_that_two_names_are_two_patients_is_said_within_the_budget_only(
    make_intake: Callable[..., Intake], tmp_path: Path, ehr: Any, spent: bool
) -> None:
    intake = make_intake(tmp_path / "site")
    sender = Sender(intake, ehr)
    for number in range(4 if spent else 1):
        sender.names(f"stranger-{number}")

    two = {"reference": "Patient/p-1", "identifier": {"value": "p-2"}}
    assert sender.withdraw(two).status_code == (200 if spent else 422)
    assert intake.ledger.is_stopped("p-1")
    assert intake.ledger.is_stopped("p-2")


def test_a_spent_budget_is_noted_for_the_doctor(make_intake: Callable[..., Intake], tmp_path: Path) -> None:
    intake = make_intake(tmp_path / "site")
    file = tmp_path / "fhir" / "enumeration.json"
    telling = Telling(intake.clock, 2, 1, file)
    for number in range(2):
        assert telling.may_say(f"{number}")
    assert not file.exists()
    assert not telling.may_say("2")
    assert read_enumerations(file).last == {FHIR_CLIENTS: intake.clock()}
