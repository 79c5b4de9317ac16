"""A consent that nobody can judge stops use until clearer ones come or the steward decides; it never unlearns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.evidence.event_log import SiteLog
from client.intake.fhir.intake import Intake
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, RevocationStatus, Source, State
from client.settings import SiteFolder
from common.evidence.keys import SigningKey
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode
from common.files import write_private
from common.platform.keys.private_keys import new_secret

Make = Callable[..., Intake]
OTHER_CODE = {"type": "permit", "code": [{"coding": [{"system": "urn:oid:1.2.3", "code": "4"}]}]}


@pytest.fixture
def intake(make_intake: Make, tmp_path: Path) -> Intake:
    return make_intake(tmp_path / "site")


def standing(intake: Intake, patient: str = "p-1") -> list[RevocationStatus]:
    return [*intake.ledger.of_patient(patient)]


def states(intake: Intake, patient: str = "p-1") -> list[State]:
    return [found.state for found in standing(intake, patient)]


def command(intake: Intake, *arguments: str) -> tuple[int, Any]:
    place = ("--dir", str(intake.ledger.folder.root), "--json")
    result = CliRunner().invoke(app, ["steward", *arguments, *place])
    return result.exit_code, json.loads(result.stdout) if result.stdout[:1] in {"{", "["} else result.output


def test_a_consent_that_nobody_can_judge_stops_use_and_waits_for_the_steward(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1")))
    assert not intake.ledger.is_stopped("p-1")
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    (held,) = standing(intake)
    assert held.state is State.ON_HOLD
    assert "entered in error" in held.reason
    assert intake.ledger.is_stopped("p-1")
    assert not intake.ledger.is_stopped("p-2")
    assert intake.ledger.waiting() == (0, None)
    assert [item.consent for item in intake.steward_list()] == ["c-1"]
    intake.settle()
    assert states(intake) == [State.ON_HOLD]


def test_clearer_consents_end_the_hold_of_their_own(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    intake.take(ehr.write(ehr.consent("c-1", "p-1")))
    (held,) = standing(intake)
    assert (held.state, held.reason) == (State.REFUSED, "the consents permit use")
    assert not intake.ledger.is_stopped("p-1")


def test_a_withdrawal_takes_the_place_of_a_hold(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    assert sorted(states(intake)) == [State.PENDING, State.REFUSED]
    assert intake.ledger.is_stopped("p-1")
    assert intake.ledger.waiting().number == 1


def test_who_has_revoked_is_not_held_too(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    assert states(intake) == [State.PENDING]


def test_consents_about_other_things_and_patients_of_no_set_hold_nothing(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write({**ehr.consent("c-1", "p-1"), "provision": OTHER_CODE}))
    intake.take(ehr.write(ehr.consent("c-2", "stranger", "entered-in-error")))
    assert states(intake) == states(intake, "stranger") == []
    assert intake.ledger.stopped() == frozenset()


def test_who_joins_the_cohort_later_is_held_then(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "late", "entered-in-error")))
    intake.settle()
    assert states(intake, "late") == []
    file = intake.ledger.folder.root / "site.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "subsets": {**known["subsets"], "late": "train"}}))
    intake.settle()
    assert states(intake, "late") == [State.ON_HOLD]
    assert intake.ledger.is_stopped("late")


def test_the_steward_permits_and_a_newer_consent_is_a_new_question(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    code, (item,) = command(intake, "list")
    assert (code, item["consent"]) == (0, "c-1")
    assert "p-1" not in json.dumps(item)
    decision = ("resolve", item["receipt"], "--by", "Lee", "--reason", "the paper form is valid")
    assert command(intake, *decision, "--permit") == (
        0,
        {"receipt": item["receipt"], "patients": 1, "states": ["refused"]},
    )
    assert not intake.ledger.is_stopped("p-1")
    intake.settle()
    assert states(intake) == [State.REFUSED]
    last = intake.ledger.history(item["receipt"])[-1]
    assert (last.actor, last.reason, last.at) == ("Lee", "the paper form is valid", last.at)
    assert command(intake, "list") == (0, [])
    assert intake.steward_list() == ()
    assert command(intake, *decision, "--permit")[0] == 2
    newer = ehr.write(ehr.consent("c-1", "p-1", "entered-in-error"))
    intake.take(newer)
    assert states(intake) == [State.REFUSED, State.ON_HOLD]


def test_the_steward_makes_a_revocation_of_it(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    _, (item,) = command(intake, "list")
    for lacking in (("--by", " ", "--reason", "x"), ("--by", "Lee", "--reason", "")):
        assert command(intake, "resolve", item["receipt"], "--revoke", *lacking)[0] == 2
    decision = ("resolve", item["receipt"], "--revoke", "--by", "Lee", "--reason", "the patient called")
    assert command(intake, *decision)[1]["states"] == ["pending"]
    assert intake.ledger.waiting().number == 1
    assert intake.ledger.is_stopped("p-1")


def test_a_hold_restored_from_its_tombstone_is_a_hold_and_unlearns_nobody(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake = make_intake(tmp_path / "site")
    folder = intake.ledger.folder
    intake.ledger.engine.dispose()
    shutil.copy(folder.database, tmp_path / "backup.db")
    intake.take(ehr.write(ehr.consent("c-1", "p-1", "entered-in-error")))
    intake.ledger.engine.dispose()
    for leftover in folder.root.glob("site.db*"):
        leftover.unlink()
    shutil.copy(tmp_path / "backup.db", folder.database)
    with open_ledger(folder) as ledger:
        (held,) = ledger.of_patient("p-1")
        assert (held.source.kind, held.state) == ("restored", State.ON_HOLD)
        assert ledger.is_stopped("p-1")


@contextmanager
def log_of(intake: Intake) -> Iterator[SiteLog]:
    folder = SiteFolder(intake.ledger.folder.root)
    yield SiteLog(folder, intake.ledger.engine, intake.clock)


def kinds(intake: Intake) -> list[str]:
    folder = intake.ledger.folder
    if not folder.signing_key.exists():
        write_private(folder.signing_key, SigningKey.generate().to_pem(new_secret(folder.passphrase)))
        folder.settings_file.write_text(
            f'name = "north"\ngateway = "a:1"\ncoordination = "a:2"\nca_fingerprint = "{"0" * 64}"\n'
        )

    with log_of(intake) as site:
        site.follow()
        with site.session() as session:
            return [decode(Entry, leaf).kind for leaf in site.log.leaves(session)]


def test_the_log_calls_a_hold_a_hold_and_a_revocation_only_what_the_steward_makes_one(intake: Intake, ehr: Any) -> None:
    for number in (1, 2):
        intake.take(ehr.write(ehr.consent(f"c-{number}", f"p-{number}", "entered-in-error")))
    assert kinds(intake) == ["key", "use-on-hold", "use-on-hold"]
    _, (first, second) = command(intake, "list")
    command(intake, "resolve", first["receipt"], "--permit", "--by", "Lee", "--reason", "valid")
    command(intake, "resolve", second["receipt"], "--revoke", "--by", "Lee", "--reason", "called")
    assert sorted(kinds(intake)[3:]) == ["revocation", "tombstone", "use-resumed"]


def test_the_log_calls_the_hold_on_a_look_alike_a_hold(intake: Intake) -> None:
    request = Request(Source("cli", "r-1"), "r-1", intake.clock())
    assert intake.ledger.record(request, ["P_01"]).doubtful == 1
    assert sorted(kinds(intake)) == ["key", "revocation", "tombstone", "use-on-hold"]
