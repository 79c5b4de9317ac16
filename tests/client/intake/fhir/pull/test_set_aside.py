"""One consent that cannot be handled costs none of the others their withdrawal, and its patient is on hold."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ehr import consent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from client.intake.fhir.decisions import settling as settling_module
from client.intake.fhir.decisions import weighing
from client.intake.fhir.intake import Intake
from client.intake.fhir.pull.page import read_page
from client.intake.fhir.pull.pull import pull
from client.intake.fhir.pull.set_aside import set_aside
from client.intake.fhir.server import FhirServer, http_client
from client.intake.fhir.store.tables import ConsentRow
from client.revocations.revocation import State, is_doubt
from client.revocations.tombstones.overview import read_revocations
from common.errors import WireError
from common.platform.sql import to_utc

OVERLAP = timedelta(seconds=2)
Make = Callable[..., Intake]
DATES = ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-05:00", "9999-12-31", "0001", "2026-02-30", "")


@pytest.fixture
def intake(make_intake: Make, tmp_path: Path, ehr: Any) -> Intake:
    return make_intake(tmp_path / "site", base=ehr.base)


def revoked(intake: Intake) -> set[str]:
    found = read_revocations(intake.ledger.folder.root).patients
    return {patient for patient, standing in found.items() if not is_doubt(standing.receipt)}


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("name", ["lastUpdated", "dateTime"])
def test_a_date_that_no_calendar_has_in_utc_blocks_no_other_withdrawal(
    ehr: Any, server: FhirServer, intake: Intake, date: str, name: str
) -> None:
    odd = ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    (odd["meta"] if name == "lastUpdated" else odd)[name] = date
    ehr.write(ehr.consent("c-2", "p-2", "inactive"))
    ehr.sort = False

    for _ in range(2):
        pull(server, intake, OVERLAP)
        assert "p-2" in revoked(intake)
        assert intake.ledger.is_stopped("p-1")

    due = [standing.due for standing in intake.ledger.of_patient("p-1")]
    assert all(moment.year < 3000 for moment in due)
    ehr.write(ehr.consent("c-3", "p-3", "inactive"))
    pull(server, intake, OVERLAP)
    assert "p-3" in revoked(intake)


@pytest.mark.parametrize("text", DATES[:2])
def test_a_moment_beyond_the_calendar_is_stored_as_its_end(text: str) -> None:
    stored = to_utc(datetime.fromisoformat(text))
    assert stored.tzinfo is UTC
    assert stored.year in (1, 9999)


def test_a_consent_that_the_database_does_not_take_is_held_and_the_others_are_kept(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    for n in range(4):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive"))

    def refuse(_: object, __: object, row: Any) -> None:
        if row.resource == "c-2" and "policy" in row.document:
            raise OverflowError("a value of p-2")

    event.listen(ConsentRow, "before_insert", refuse)
    try:
        pull(server, intake, OVERLAP)
    finally:
        event.remove(ConsentRow, "before_insert", refuse)

    assert revoked(intake) == {"p-0", "p-1", "p-3"}
    assert [found.state for found in intake.ledger.of_patient("p-2")] == [State.ON_HOLD]
    assert "c-2" in {item.consent for item in intake.steward_list()}


def test_a_consent_at_which_the_rule_fails_holds_its_patient_and_no_other(
    ehr: Any, server: FhirServer, intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weigh = weighing.weigh

    def fail_once(versions: Any, *arguments: Any, **more: Any) -> Any:
        if any(version.resource == "c-2" for version in versions):
            raise ZeroDivisionError("p-2")
        return weigh(versions, *arguments, **more)

    monkeypatch.setattr(settling_module, "weigh", fail_once)
    for n in range(4):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive"))
    assert pull(server, intake, OVERLAP).revoked == 3
    assert revoked(intake) == {"p-0", "p-1", "p-3"}
    assert [found.state for found in intake.ledger.of_patient("p-2")] == [State.ON_HOLD]
    (item,) = intake.steward_list()
    assert (item.consent, item.patient) == ("c-2", "p-2")
    assert "p-2" not in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_consent_without_a_proper_id_is_one_item_however_often_it_is_read(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    for bad in ("..", "c 1", "x" * 65):
        ehr.write(ehr.consent(bad, "p-1", "inactive"))
    ehr.write({**ehr.consent("c 2", "p-2"), "patient": {"display": "somebody"}})
    assert pull(server, intake, OVERLAP).unusable == 4
    first = len(intake.steward_list())
    pull(server, intake, OVERLAP)
    assert len(intake.steward_list()) == first
    assert {found.state for found in intake.ledger.of_patient("p-1")} == {State.ON_HOLD}
    assert not any("/../" in path or "%20" in path or "_history" in path for path in ehr.requests)


def test_a_later_version_that_can_be_read_ends_the_hold(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.rewrite = with_raw
    ehr.write({**ehr.consent("c-1", "p-1"), "language": "@twice"})
    pull(server, intake, OVERLAP)
    assert [found.state for found in intake.ledger.of_patient("p-1")] == [State.ON_HOLD]
    ehr.write(ehr.consent("c-1", "p-1"))
    pull(server, intake, OVERLAP)
    assert not intake.ledger.is_stopped("p-1")


def test_a_page_whose_json_is_broken_is_refused_as_a_whole(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.rewrite = lambda text: text[:-5]
    with pytest.raises(WireError, match="not a JSON object"):
        pull(server, intake, OVERLAP)


RAW = {
    "@nan": "NaN",
    "@infinite": "-Infinity",
    "@huge": "9" * 6000,
    "@exponent": "1e999999",
    "@deep": "[" * 100_000 + "]" * 100_000,
    "@nested": '{"a":' * 300 + "1" + "}" * 300,
    "@twice": '{"a": 1, "a": 2}',
    "@latin": '"M\udcfcller"',
}
"""Values that `json.dumps` does not write."""


def with_raw(text: str) -> str:
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield (*path, name)
        yield from places(item, (*path, name))


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("place", ["meta", "id", "patient", "scope", "provision", "language"])
def test_a_stand_in_is_made_of_whatever_comes(raw: str, place: str) -> None:
    entry = {"resource": {**consent("c-1", "p-1"), place: [raw, {"versionId": raw, "lastUpdated": raw}]}}
    for value in (entry, {"resource": {**consent("c-1", "p-1"), place: {"versionId": raw, "identifier": raw}}}):
        text = with_raw(json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": [value]}))
        page = read_page(text.encode("utf-8", "surrogateescape"))
        made = [set_aside(resource) for resource in (*page.consents, *page.unclear)]
        assert len(made) == 1
        assert made[0].resource == ("c-1" if place != "id" else made[0].resource)


SAMPLE = {"meta": {"versionId": "1", "lastUpdated": "2026-11-01T08:00:00+00:00"}}
GARBAGE = (
    st.sampled_from([*RAW, *DATES, "..", "\x00", "\ud800", "a\u202eb", "x" * 100_000])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    )
)


def put(value: Any, path: tuple[Any, ...], garbage: object) -> None:
    for name in path[:-1]:
        value = value[name]
    value[path[-1]] = garbage


def check_garbage(ehr: Any, make_intake: Make, path: tuple[Any, ...], garbage: object) -> None:
    ehr.reset()
    ehr.rewrite = with_raw
    ehr.sort = False
    folder = Path(tempfile.mkdtemp())

    try:
        intake = make_intake(folder / "site", base=ehr.base)
        for n in range(20):
            ehr.write(copy.deepcopy(ehr.consent(f"c-{n}", f"p-{n}", "inactive")))
        put(ehr.versions["c-7"][0], path, garbage)
        with http_client(None) as http:
            server = FhirServer(http, ehr.base, pause=lambda _: None)
            for _ in range(2):
                pull(server, intake, OVERLAP)

        assert {f"p-{n}" for n in range(20) if n != 7} <= revoked(intake)
        if path[0] in ("meta", "id", "status", "dateTime"):
            assert intake.ledger.is_stopped("p-7")
        assert intake.store.progress(ehr.base).cursor is not None
    finally:
        shutil.rmtree(folder)


PLACES = st.sampled_from([*places({**consent("c-7", "p-7", "inactive"), **SAMPLE})])


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PLACES, garbage=GARBAGE)
def test_garbage_in_any_field_loses_none_of_the_others_for_long(
    ehr: Any, make_intake: Make, path: tuple[Any, ...], garbage: object
) -> None:
    check_garbage(ehr, make_intake, path, garbage)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PLACES, garbage=GARBAGE)
def test_garbage_in_any_field_of_one_of_twenty_consents_loses_none_of_the_others(
    ehr: Any, make_intake: Make, path: tuple[Any, ...], garbage: object
) -> None:
    check_garbage(ehr, make_intake, path, garbage)
