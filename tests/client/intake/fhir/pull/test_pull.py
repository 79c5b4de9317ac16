"""Pulling from a FHIR server over HTTP that fails, changes under the reader, and whose hooks are lost."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.intake.fhir.intake import Intake
from client.intake.fhir.pull.pull import pull, reconcile
from client.intake.fhir.pull.puller import Puller
from client.intake.fhir.server import FhirServer, http_client
from client.intake.fhir.store.listings import REASON
from client.revocations.deadline import months_after
from client.revocations.revocation import State, is_doubt
from client.revocations.tombstones.overview import read_revocations
from common.errors import RefusedError, UnavailableError, WireError

from ..conftest import Clock

OVERLAP = timedelta(seconds=2)
Make = Callable[..., Intake]


@pytest.fixture
def intake(make_intake: Make, tmp_path: Path, ehr: Any) -> Intake:
    return make_intake(tmp_path / "site", base=ehr.base)


def later(intake: Intake, by: timedelta) -> None:
    """The clock of the tests goes on."""
    assert isinstance(intake.clock, Clock)
    intake.clock.now += by


def revoked(intake: Intake) -> set[str]:
    found = read_revocations(intake.ledger.folder.root).patients
    return {patient for patient, standing in found.items() if not is_doubt(standing.receipt)}


def test_a_consent_that_turns_inactive_is_a_revocation_dated_by_the_server(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.write(ehr.consent("c-2", "p-2"))
    assert pull(server, intake, OVERLAP).new == 2
    assert revoked(intake) == set()
    written = ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    later(intake, timedelta(days=3))
    found = pull(server, intake, OVERLAP)
    assert (found.new, found.revoked) == (1, 1)
    entry = read_revocations(intake.ledger.folder.root).patients["p-1"]
    assert (entry.state, entry.received) == ("pending", datetime.fromisoformat(written["meta"]["lastUpdated"]))
    assert entry.due == months_after(entry.received, 1)
    assert pull(server, intake, OVERLAP).revoked == 0


def test_a_patient_of_no_training_set_is_recorded_and_one_of_no_set_at_all_too(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    for patient in ("e-0", "stranger"):
        ehr.write(ehr.consent(f"c-{patient}", patient, "inactive"))
    assert pull(server, intake, OVERLAP).revoked == 2
    states = {p: entry.state for p, entry in read_revocations(intake.ledger.folder.root).patients.items()}
    assert states == {"e-0": "evaluation-only", "stranger": "excluded-before-training"}


def test_a_mistake_and_what_cannot_be_read_go_to_the_steward_and_revoke_nothing(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-1", "p-1", "entered-in-error"))
    ehr.write({**ehr.consent("c-2", "p-2"), "status": "revoked"})
    ehr.write({**ehr.consent("c-3", "p-3", "inactive"), "patient": {"display": "somebody"}})
    ehr.write({**ehr.consent("c 4", "p-4", "inactive")})
    found = pull(server, intake, OVERLAP)
    assert (found.new, found.unusable, found.revoked) == (3, 1, 0)
    assert revoked(intake) == set()
    listed = {item.consent: item.reason for item in intake.store.steward_list()}
    assert "entered in error" in listed["c-1"]
    assert "status" in listed["c-2"]
    assert intake.store.tally().unmapped == 1
    assert {name for name in listed if not name.startswith("unusable-")} == {"c-1", "c-2", "c-3"}
    (held,) = intake.ledger.of_patient("p-4")  # whose consent has no proper id
    assert held.state is State.ON_HOLD


def test_a_withdrawal_that_was_taken_back_between_two_pulls_is_still_one(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    pull(server, intake, OVERLAP)
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    ehr.write(ehr.consent("c-1", "p-1"))
    assert pull(server, intake, OVERLAP).revoked == 1
    (item,) = intake.store.steward_list()
    assert (item.consent, item.version) == ("c-1", "3")
    assert "consented again" in item.reason


def test_a_lost_withdrawal_below_a_version_that_a_hook_carried_is_found(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    pull(server, intake, OVERLAP)
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    intake.notice([ehr.write(ehr.consent("c-1", "p-1"))])
    ehr.write(ehr.consent("c-1", "p-1"))
    assert pull(server, intake, OVERLAP).revoked == 1


def test_who_withdrew_and_consented_again_before_the_first_pull_has_consented(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    for status in ("active", "inactive", "active"):
        ehr.write(ehr.consent("c-1", "p-1", status))
    pull(server, intake, OVERLAP)
    reconcile(server, intake, OVERLAP)
    assert revoked(intake) == set()


def test_a_server_without_history_is_read_as_far_as_it_goes(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.has_history = False
    ehr.write(ehr.consent("c-1", "p-1"))
    pull(server, intake, OVERLAP)
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    assert pull(server, intake, OVERLAP).revoked == 1


def test_faults_are_tried_again_and_the_cursor_waits_for_the_whole(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.page = 2
    for n in range(7):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}"))
    ehr.faults = [503, 500, -1, 429]
    assert pull(server, intake, OVERLAP).new == 7
    before = intake.store.progress(ehr.base)
    ehr.page = 4  # the two that the overlap reads again, and two more
    for n in range(5):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive"))

    def fail() -> None:
        ehr.faults = [500] * 5
        ehr.after_page = lambda: None

    ehr.after_page = fail
    with pytest.raises(UnavailableError, match="after 5 tries"):
        pull(server, intake, OVERLAP)
    assert intake.store.progress(ehr.base) == before
    assert len(revoked(intake)) == 2  # what was read counts at once
    assert pull(server, intake, OVERLAP).new == 3
    assert len(revoked(intake)) == 5


def test_a_first_pull_that_breaks_off_judges_nobody_by_half_of_the_consents(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.page = 1
    other = [{"uri": "https://hospital.example/another-study"}]
    ehr.write({**ehr.consent("c-1", "p-1", "inactive"), "policy": other, "dateTime": "2023-01-01"})
    ehr.write(ehr.consent("c-2", "p-1"))

    def fail() -> None:
        ehr.faults = [500] * 5
        ehr.after_page = lambda: None

    ehr.after_page = fail
    with pytest.raises(UnavailableError):
        pull(server, intake, OVERLAP)
    assert pull(server, intake, OVERLAP).revoked == 0
    assert [item.reason for item in intake.steward_list()] == ["a consent to something else was withdrawn"]


def test_a_version_dated_in_the_future_hides_none_that_follow(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.write(ehr.consent("c-2", "p-2", "inactive"))["meta"]["lastUpdated"] = "2099-01-01T00:00:00Z"
    pull(server, intake, OVERLAP)
    assert read_revocations(intake.ledger.folder.root).patients["p-2"].received == intake.clock()
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    assert pull(server, intake, OVERLAP).revoked == 1


def test_what_slips_between_two_pages_is_found(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.page = 2
    ehr.write(ehr.consent("c-0", "p-0"))
    pull(server, intake, OVERLAP)
    for n in range(5):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive"))

    def change() -> None:
        """The first of the page that was just read moves to the end, and the next page's first to the page before."""
        ehr.after_page = lambda: None
        ehr.write(ehr.consent("c-0", "p-0", "inactive"))

    ehr.after_page = change
    pull(server, intake, OVERLAP)
    assert revoked(intake) == {f"p-{n}" for n in range(5)}


def test_a_reconciliation_finds_what_was_written_behind_the_cursor(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.write(ehr.consent("c-9", "p-9"))
    pull(server, intake, OVERLAP)
    late = ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    late["meta"]["lastUpdated"] = (ehr.now - timedelta(hours=1)).isoformat()
    del ehr.versions["c-9"]
    assert pull(server, intake, OVERLAP).new == 0
    found = reconcile(server, intake, OVERLAP)
    assert (found.pulled.new, found.pulled.revoked, found.gone) == (1, 1, 1)
    assert reconcile(server, intake, OVERLAP).pulled.new == 0


def test_a_consent_that_the_server_lists_no_more_is_on_the_stewards_list_until_it_is_back(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    for n in (1, 2, 3):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive" if n == 3 else "active"))
    ehr.write(ehr.consent("c-4", "of-no-cohort"))
    intake.take(ehr.consent("pushed", "p-4"))
    reconcile(server, intake, OVERLAP)
    assert intake.steward_list() == ()
    deleted = {number: ehr.versions.pop(number) for number in ("c-1", "c-3", "c-4")}
    assert reconcile(server, intake, OVERLAP).gone == 4

    for _ in range(2):
        (item,) = intake.steward_list()
        assert (item.consent, item.patient, item.reason) == ("c-1", "p-1", REASON)
        reconcile(server, intake, OVERLAP)

    ehr.versions |= deleted
    reconcile(server, intake, OVERLAP)
    assert intake.steward_list() == ()


def test_a_reconciliation_finds_what_slips_between_two_pages_too(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.page = 2
    later(intake, timedelta(days=1))
    for n in range(5):
        ehr.now += timedelta(hours=1)
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}"))

    pull(server, intake, OVERLAP)
    behind = ehr.versions["c-2"][-1]["meta"]["lastUpdated"]
    ehr.write(ehr.consent("c-2", "p-2", "inactive"))["meta"]["lastUpdated"] = behind

    def change() -> None:
        if "_lastUpdated=ge" not in ehr.requests[-1]:
            ehr.after_page = lambda: None
            ehr.write(ehr.consent("c-0", "p-0", "inactive"))

    ehr.after_page = change
    assert reconcile(server, intake, OVERLAP).pulled.revoked == 2
    assert revoked(intake) == {"p-0", "p-2"}


@pytest.mark.parametrize(
    ("link", "message"), [("https://elsewhere.example/fhir/Consent", "another server"), ("same", "loop")]
)
def test_pages_that_lead_astray_are_not_followed(
    ehr: Any, server: FhirServer, intake: Intake, link: str, message: str
) -> None:
    ehr.page = 1
    ehr.next_link = f"{ehr.base}/Consent?a=b" if link == "same" else link
    for n in range(3):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}"))
    with pytest.raises(WireError, match=message):
        pull(server, intake, OVERLAP)


def test_a_refusal_is_not_tried_again(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.faults = [403] * 3
    with pytest.raises(RefusedError):
        pull(server, intake, OVERLAP)
    assert len(ehr.faults) == 2


def test_nothing_on_the_disk_names_a_patient_but_what_is_sealed(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.write(ehr.consent("c-1", "MRN-0815"))
    pull(server, intake, OVERLAP)
    with contextlib.closing(sqlite3.connect(intake.ledger.folder.root / "site.db")) as database:
        rows = [row for table in ("consents", "consent_patients") for row in database.execute(f"select * from {table}")]  # noqa: S608 - names of this line
    assert len(rows) == 2
    assert "MRN-0815" not in json.dumps(rows, default=str)
    assert "name of" not in json.dumps(rows, default=str)


def test_a_failure_is_waited_out_and_a_night_that_was_missed_is_made_up_for(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    puller = Puller(intake, lambda: contextlib.nullcontext(server), 300.0, OVERLAP, 2, random.Random(0))
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.faults = [500] * 10
    first = puller.step()
    second = puller.step()
    assert 0 < first < second < 300
    assert puller.step() == 300
    first_time = intake.store.progress(ehr.base).reconciled
    assert first_time == intake.clock()  # which reads everything
    later(intake, timedelta(seconds=300))
    assert puller.step() == 300
    assert intake.store.progress(ehr.base).reconciled == first_time
    later(intake, timedelta(days=2))

    def fail() -> None:
        ehr.faults = [500] * 5
        ehr.after_page = lambda: None

    ehr.after_page = fail  # the pull of that night succeeds, and what follows it does not
    assert puller.step() < 300
    assert intake.store.progress(ehr.base).reconciled == first_time
    assert intake.store.progress(ehr.base).pulled == intake.clock()
    assert puller.step() == 300
    assert intake.store.progress(ehr.base).reconciled == intake.clock()


STATUS = st.sampled_from(["active", "inactive", "entered-in-error", "draft"])
DELIVERY = st.sampled_from(["lost", "poke", "payload", "late", "twice"])
CHANGES = st.lists(st.tuples(st.integers(0, 4), STATUS, DELIVERY, st.booleans()), min_size=1, max_size=8)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, shuffle=st.randoms(use_true_random=False))
def test_whatever_hooks_are_lost_late_or_repeated_the_revocations_are_the_same(
    ehr: Any, make_intake: Make, changes: list[tuple[int, str, str, bool]], shuffle: Any
) -> None:
    ehr.reset()
    ehr.page = 2
    folder = Path(tempfile.mkdtemp())

    with http_client(None) as http:
        server = FhirServer(http, ehr.base, pause=lambda _: None)
        intake = make_intake(folder / "site", base=ehr.base)
        for n in range(5):
            ehr.write(ehr.consent(f"c-{n}", f"p-{n}"))
        pull(server, intake, OVERLAP)
        late = []
        withdrawn = set()

        for n, status, delivery, breaks in changes:
            version = ehr.write(ehr.consent(f"c-{n}", f"p-{n}", status))
            withdrawn |= {f"p-{n}"} if status == "inactive" else set()
            ehr.faults = [500] * 5 if breaks else []

            if delivery in ("payload", "twice"):
                receipts = {intake.notice([version])[0].receipt for _ in range(1 + (delivery == "twice"))}
                assert len(receipts) == 1
            elif delivery == "late":
                late.append(version)
            elif delivery == "poke":
                with contextlib.suppress(UnavailableError):
                    pull(server, intake, OVERLAP)

        shuffle.shuffle(late)
        for version in late:
            intake.notice([version])
        ehr.faults = []
        pull(server, intake, OVERLAP)
        assert revoked(intake) == withdrawn

    shutil.rmtree(folder)
