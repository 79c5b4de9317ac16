"""The doctor at a site whose ways in are all open, and in which one thing at a time is wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.intake.enumerations import note_enumeration
from client.intake.fhir.endpoint.telling import FHIR_CLIENTS
from client.intake.fhir.setup import make_keys
from client.intake.grpc.authority import add_client, make_authority
from client.membership.setup import SiteRequest, create_site
from client.runtime.doctor_ways_in import examine_ways_in
from client.settings import SiteFolder
from common.evidence.keys import SigningKey
from common.platform.checks import Check

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    create_site(tmp_path / "north", SiteRequest("north", "localhost", "0" * 64))
    site = SiteFolder(tmp_path / "north")
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        fhir, grpc = (listener.getsockname()[1] for listener in listeners)

    with site.settings_file.open("a") as file:
        file.write(f'[fhir]\nenabled = true\nport = {fhir}\npatient_map = "map.csv"\n')
        file.write('certificate = "consent-service/server.crt"\nkey = "consent-service/server.key"\n')
        file.write(
            f'[consent_service]\nenabled = true\nport = {grpc}\n[inbox]\nenabled = true\nkeys = ["office.pem"]\n'
        )

    make_authority(site, ["localhost"], NOW)
    add_client(site, "desk", "steward", NOW)
    make_keys(site)
    (site.root / "map.csv").write_text("fhir_patient,patient_id\np-1,MRN-1\n")
    (site.root / "office.pem").write_bytes(SigningKey.generate().public.pem)
    site.inbox.mkdir()

    return site


def examined(folder: SiteFolder, now: datetime = NOW, *, up_runs: bool = False) -> dict[str, Check]:
    return {check.name: check for check in examine_ways_in(folder, folder.settings(), now, up_runs=up_runs)}


def test_ways_in_that_are_set_up_pass_and_nobody_is_named(folder: SiteFolder) -> None:
    found = examined(folder)
    assert {check.result for check in found.values()} == {"ok"}
    assert found["consent service clients"].detail == "1 certificates issued by this site, 0 withdrawn"
    assert found["FHIR patient map"].detail == "1 patients"
    assert "MRN" not in str(found)


def test_a_way_that_is_not_enabled_is_not_looked_at(folder: SiteFolder) -> None:
    text = folder.settings_file.read_text().replace("enabled = true", "enabled = false")
    folder.settings_file.write_text(text)
    assert examined(folder) == {}


def lose(name: str) -> Callable[[SiteFolder], object]:
    return lambda folder: (folder.root / name).unlink()


def expose(name: str) -> Callable[[SiteFolder], object]:
    return lambda folder: (folder.root / name).chmod(0o644)


def write(name: str, text: str) -> Callable[[SiteFolder], object]:
    return lambda folder: (folder.root / name).write_text(text)


def other_key(folder: SiteFolder) -> None:
    handed = folder.consent_service / "handover" / "desk" / "client.key"
    (folder.consent_service / "server.key").write_bytes(handed.read_bytes())


@pytest.mark.parametrize(
    ("break_it", "failing", "says"),
    [
        (lose("consent-service/server.crt"), {"consent service TLS", "FHIR TLS"}, "cannot read"),
        (expose("consent-service/server.key"), {"consent service TLS", "FHIR TLS"}, "others can read this key"),
        (other_key, {"consent service TLS", "FHIR TLS"}, "the key does not match the certificate"),
        (write("consent-service/ca.crt", "none"), {"consent service TLS"}, "not a certificate"),
        (lose("secrets/pseudonyms"), {"FHIR secret secrets/pseudonyms"}, "cannot read"),
        (expose("fhir/token"), {"FHIR secret fhir/token"}, "others can read this key"),
        (write("map.csv", "fhir_patient,patient_id\nMRN-2,\n"), {"FHIR patient map"}, "unusable"),
        (write("office.pem", "none"), {"inbox keys"}, "not a public key: number 1"),
        (lose("office.pem"), {"inbox keys"}, "not a public key: number 1"),
    ],
)
def test_what_is_missing_or_wrong_fails_with_a_remedy(
    folder: SiteFolder, break_it: Callable[[SiteFolder], object], failing: set[str], says: str
) -> None:
    break_it(folder)
    found = {name: check for name, check in examined(folder).items() if check.result == "fail"}
    assert set(found) == failing
    assert all(says in check.detail and check.remedy for check in found.values())
    assert "MRN" not in str(found)


def test_certificates_that_are_about_to_end_warn_and_ended_ones_fail(folder: SiteFolder) -> None:
    soon = examined(folder, NOW + timedelta(days=350))
    assert soon["consent service clients' first end"].result == "warn"
    late = examined(folder, NOW + timedelta(days=900))
    assert {late[name].result for name in ("consent service certificate", "FHIR certificate")} == {"fail"}


def test_a_port_that_another_program_holds_fails_and_so_does_one_that_nobody_holds_while_up_runs(
    folder: SiteFolder,
) -> None:
    port = folder.settings().consent_service.port
    with socket.create_server(("127.0.0.1", port)):
        assert examined(folder)[f"port {port} (consent service)"].result == "fail"
    assert examined(folder, up_runs=True)[f"port {port} (consent service)"].result == "fail"


def test_a_fhir_server_that_does_not_answer_fails(folder: SiteFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = folder.settings_file.read_text().replace("[fhir]", f'[fhir]\nserver = "http://127.0.0.1:{port}/fhir"')
        folder.settings_file.write_text(text)
        assert examined(folder)["FHIR server port"].result == "ok"

    assert examined(folder)["FHIR server port"].result == "fail"


def test_many_withdrawals_of_unknown_people_by_fhir_warn_for_a_month(folder: SiteFolder) -> None:
    name = "FHIR withdrawals of unknown people"
    assert name not in examined(folder)
    note_enumeration(folder.fhir_enumeration, FHIR_CLIENTS, NOW - timedelta(days=2))
    assert examined(folder)[name].result == "warn"
    assert name not in examined(folder, NOW + timedelta(days=29))
