"""Names cannot be tried out: a budget for each client, the same refusal for everybody, and a note for the doctor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from client.intake.enumerations import ENUMERATION_FILE, read_enumerations
from client.intake.grpc.access import Caller, Refusal
from client.intake.grpc.lookups import Lookups
from client.intake.grpc_api import consent_pb2 as messages
from client.runtime.doctor import examine
from common.errors import InputError, UnavailableError
from simulations.bench.hospital.consent_hospital import ConsentHospital

EHR = Caller("ehr-1", "ehr", "f1")
OTHER = Caller("ehr-2", "ehr", "f2")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_who_asks_for_many_in_vain_gets_no_answer_until_its_budget_has_grown(tmp_path: Path) -> None:
    now = [NOW]
    lookups = Lookups(3, 60, lambda: now[0], tmp_path / "note")
    for number in range(3):
        lookups.check(EHR)
        lookups.in_vain(EHR, f"p{number}")

    with pytest.raises(Refusal, match="too many questions"):
        lookups.check(EHR)
    lookups.check(OTHER)
    assert read_enumerations(tmp_path / "note").last == {"ehr-1": NOW}
    now[0] += timedelta(minutes=1)
    lookups.check(EHR)


def test_the_same_person_again_costs_nothing(tmp_path: Path) -> None:
    lookups = Lookups(2, 1, lambda: NOW, tmp_path / "note")
    for _ in range(50):
        lookups.in_vain(EHR, "p1")
        lookups.check(EHR)


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("{")
    assert read_enumerations(tmp_path / "note").last == {}


def test_names_tried_out_at_the_service_are_cut_off_noted_and_hinder_no_revocation(
    new_hospital: Callable[..., ConsentHospital],
) -> None:
    one = new_hospital("unknown_per_hour = 1\nunknown_burst = 5")
    one.start()
    known = f"{one.prefix}-1"
    other = f"{one.prefix}-2"

    with one.client("ehr-1") as ehr, one.client("ehr-2") as second:
        ehr.revoke(other, source_id="before")
        reasons = {ehr.check(f"{one.prefix}-guess-{number}").reason for number in range(5)}
        assert reasons == {"no permission is known here"}
        refusals = set()

        for patient in (known, other, f"{one.prefix}-guess-0", "never asked for"):
            with pytest.raises(UnavailableError) as caught:
                ehr.check(patient)
            refusals.add(str(caught.value))

        assert len(refusals) == 1
        with pytest.raises(UnavailableError, match="too many questions"):
            ehr.revoke(f"{one.prefix}-guess-9", source_id="guess")
        assert ehr.revoke(known, source_id="real").created
        assert second.check(known).reason == "revoked"

    noted = read_enumerations(one.folder.consent_service / ENUMERATION_FILE).last
    assert set(noted) == {"ehr-1"}
    found: list[Any] = [check for check in examine(one.folder, datetime.now(UTC)) if "questions" in check.name]
    assert [(check.result, "ehr-1" in check.detail) for check in found] == [("warn", True)]
    assert "guess" not in one.logged()
    assert "ehr-1 asks for many" in one.logged()


def test_a_batch_tells_no_more_than_as_many_single_questions(new_hospital: Callable[..., ConsentHospital]) -> None:
    one = new_hospital("unknown_per_hour = 1\nunknown_burst = 5")
    one.start()
    permitted = messages.CheckPermissionReply.PERMISSION_PERMITTED
    denied = messages.CheckPermissionReply.PERMISSION_DENIED
    unknown = messages.CheckPermissionReply.PERMISSION_UNKNOWN

    with one.client("desk") as desk, one.client("ehr-1") as ehr:
        desk.revoke(f"{one.prefix}-2", source_id="before")
        asked = [f"{one.prefix}-1", f"{one.prefix}-2", "guess-1", f"{one.prefix}-1"]
        replies = ehr.check_all(asked)
        assert [reply.permission for reply in replies] == [permitted, denied, unknown, permitted]
        assert replies[1].reason == ehr.check(asked[1]).reason
        with pytest.raises(UnavailableError, match="too many questions"):
            ehr.check_all([f"guess-{number}" for number in range(900)])
        with pytest.raises(UnavailableError, match="too many questions"):
            ehr.check(f"{one.prefix}-1")
        for wrong in ([], ["x"] * 1001, ["p", " "]):
            with pytest.raises(InputError):
                desk.check_all(wrong)
