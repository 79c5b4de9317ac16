"""The consent service as a hospital runs it: a process, mutual TLS, real certificates, a ledger on the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from client.intake.grpc_api import consent_pb2 as messages
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.workflow.decisions import approve
from common.errors import InputError
from common.evidence.commitment import check_commitment
from common.platform.actor import Actor
from simulations.bench.hospital.consent_hospital import ConsentHospital

Reply = messages.CheckPermissionReply


def kept_forms(hospital: ConsentHospital) -> list[str]:
    vault = hospital.folder.vault
    return sorted(path.name for path in vault.iterdir()) if vault.exists() else []


def test_a_revocation_is_recorded_before_the_answer_and_once_however_often_it_is_sent(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    who = patient()
    with hospital.client("ehr-1") as ehr:
        first = ehr.revoke(who, source_id="form-1", requester="guardian", identity_check="passport")
        assert first.created
        assert (first.revocation.state, first.revocation.patients) == ("pending", 1)
        assert not first.HasField("other_hospitals")
        with open_ledger(hospital.folder) as ledger:
            assert ledger.is_stopped(who)
            (standing,) = ledger.standing(first.revocation.receipt)

        assert (standing.source.kind, standing.source.id, standing.source.version) == ("grpc", "ehr-1/form-1", "1")
        assert (standing.requester, standing.identity_check, standing.steward) == ("guardian", "passport", "ehr-1")
        again = ehr.revoke(who, source_id="form-1")
        assert not again.created
        assert again.revocation == first.revocation

    with open_ledger(hospital.folder) as ledger:
        assert len(ledger.of_patient(who)) == 1


def test_who_has_revoked_before_gets_the_first_receipt_whichever_way_it_came(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    who = patient()
    before = kept_forms(hospital)

    with hospital.client("desk") as desk, hospital.client("ehr-1") as ehr:
        first = desk.revoke(who, source_id="desk-1")
        second = ehr.revoke(who, source_id="ehr-1", document=b"form")
        # It did not send that receipt, and follows it by sending its own again.
        with pytest.raises(InputError, match="no such receipt"):
            ehr.get(first.revocation.receipt)
        again = ehr.revoke(who, source_id="ehr-1", document=b"form")

    assert first.revocation == second.revocation == again.revocation
    assert not second.created
    assert kept_forms(hospital) == before


def test_the_form_is_kept_in_the_vault_and_the_ledger_has_a_salted_commitment_to_it(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    who = patient()
    with hospital.client("desk") as desk:
        receipt = desk.revoke(who, source_id="scan-1", document=b"%PDF I revoke").revocation.receipt
        with pytest.raises(InputError, match=r"a different document .* \(FAILED_PRECONDITION\)"):
            desk.revoke(who, source_id="scan-1", document=b"%PDF I consent")
        assert not desk.revoke(who, source_id="scan-1", document=b"%PDF I revoke").created

    content = (hospital.folder.vault / receipt).read_bytes()
    assert content[32:] == b"%PDF I revoke"
    with open_ledger(hospital.folder) as ledger:
        (standing,) = ledger.standing(receipt)
    check_commitment(content[32:], content[:32], standing.source.digest)


def test_an_ehr_sees_what_it_sent_and_an_auditor_everything(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    with hospital.client("ehr-1") as ehr, hospital.client("ehr-2") as other, hospital.client("audit") as auditor:
        made = ehr.revoke(patient(), source_id="mine").revocation
        assert ehr.get(made.receipt) == auditor.get(made.receipt) == made
        with pytest.raises(InputError, match="no such receipt"):
            other.get(made.receipt)
        with pytest.raises(InputError, match="no such receipt"):
            auditor.get("0" * 16)
        assert made in list(auditor.list())
        assert made in list(auditor.list(["pending"]))
        assert list(auditor.list(["refused"])) == []


def test_every_receipt_is_on_exactly_one_page_in_the_order_of_arrival(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    with hospital.client("desk") as desk:
        sent = [desk.revoke(patient(), source_id=f"page-{n}").revocation.receipt for n in range(5)]
        everything = [revocation.receipt for revocation in desk.list()]
        assert [receipt for receipt in everything if receipt in sent] == sent
        found = []
        token = ""

        while True:
            page = desk.stub.ListRevocations(messages.ListRevocationsRequest(page_size=2, page_token=token), timeout=20)
            assert len(page.revocations) <= 2
            found += [revocation.receipt for revocation in page.revocations]
            token = page.next_page_token
            if not token:
                break

    assert found == everything


def test_a_watch_tells_what_was_and_what_comes_and_goes_on_where_it_stopped(
    new_hospital: Callable[..., ConsentHospital], patient: Callable[[], str]
) -> None:
    one = new_hospital(site="two_person_approval = true")
    one.start()

    with one.client("desk") as desk, one.client("audit") as auditor:
        receipt = desk.revoke(patient(), source_id="w-1").revocation.receipt
        changes = auditor.watch()
        seen = [next(changes), next(changes)]
        assert [change.state for change in seen] == ["received", "awaiting-approval"]
        one.kill()
        with open_ledger(one.folder) as ledger:
            approve(ledger, receipt, Actor("second person", "user:1000:lee"))
        one.start()
        assert next(changes).state == "pending"
        desk.revoke(patient(), source_id="w-2")
        following = [next(changes), next(changes)]
        assert [change.receipt == receipt for change in following] == [False, False]
        only = auditor.watch(receipt, after=seen[0].sequence)
        assert [next(only).state, next(only).state] == ["awaiting-approval", "pending"]
        with pytest.raises(InputError, match="is beyond the newest change"):
            next(auditor.watch(after=2**63))


def test_permission_ends_with_a_revocation_and_is_unknown_for_a_stranger(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    who = patient()
    with hospital.client("ehr-1") as ehr:
        assert ehr.check(who).permission == Reply.PERMISSION_PERMITTED
        ehr.revoke(who, source_id="check-1", scope="images")
        found = ehr.check(who)
        assert (found.permission, found.reason) == (Reply.PERMISSION_DENIED, "revoked")
        assert ehr.check("MRN-0815-MUELLER-of-nowhere").permission == Reply.PERMISSION_UNKNOWN


def test_a_stranger_is_recorded_only_when_that_is_asked_for(hospital: ConsentHospital) -> None:
    who = "MRN-0815-MUELLER-to-come"
    with hospital.client("ehr-1") as ehr:
        with pytest.raises(InputError, match=r"this patient is not known here.*\(NOT_FOUND\)"):
            ehr.revoke(who, source_id="early")
        assert ehr.revoke(who, source_id="early", also_unknown=True).revocation.state == State.EXCLUDED
        assert ehr.check(who).permission == Reply.PERMISSION_DENIED


def test_health_and_reflection_answer_clients_and_name_the_service(hospital: ConsentHospital) -> None:
    name = "fedforget.consent.v1.ConsentService"
    with hospital.channel("audit") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert next(watched).status == check.status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()
        asked = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol=name),
        ]
        listed, file = ServerReflectionStub(channel).ServerReflectionInfo(iter(asked), timeout=20)
        assert name in [service.name for service in listed.list_services_response.service]
        described = map(FileDescriptorProto.FromString, file.file_descriptor_response.file_descriptor_proto)
        methods = [method.name for each in described for service in each.service for method in service.method]

    assert "RevokeConsent" in methods


def test_eight_clients_at_once_have_one_receipt_each(hospital: ConsentHospital, patient: Callable[[], str]) -> None:
    patients = [patient() for _ in range(8)]
    receipts = list[str]()

    def send(number: int) -> None:
        with hospital.client("ehr-2") as ehr:
            receipts.append(ehr.revoke(patients[number], source_id=f"at-once-{number}").revocation.receipt)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(receipts)) == 8


def test_it_starts_without_torch_and_ends_with_sigterm_though_somebody_watches(
    new_hospital: Callable[..., ConsentHospital],
) -> None:
    one = new_hospital()
    one.start()

    with one.client("audit") as auditor:
        changes = auditor.stub.WatchRevocation(messages.WatchRevocationRequest(), timeout=600)
        assert list(auditor.list()) == []
        maps = (f"/proc/{one.pid}/maps",)
        with open(*maps, encoding="utf-8") as file:
            assert "libtorch" not in file.read()
        assert one.stop() == 0
        assert list(changes) == []


def test_what_was_received_counts_from_the_day_that_is_given(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    received = datetime.now(UTC) - timedelta(days=10)
    with hospital.client("desk") as desk:
        made = desk.revoke(patient(), source_id="dated", received=received).revocation
    assert made.received.ToDatetime(tzinfo=UTC) == received
    assert timedelta(days=27) < made.due.ToDatetime(tzinfo=UTC) - received < timedelta(days=32)


def test_a_look_alike_is_on_hold_and_the_answer_counts_it(
    hospital: ConsentHospital, patient: Callable[[], str]
) -> None:
    who = patient()
    with hospital.client("ehr-1") as ehr:
        reply = ehr.revoke(who.lower(), source_id="look-alike")
        assert (reply.revocation.state, reply.revocation.patients) == ("on-hold", 1)
        assert (reply.revocation.known, reply.revocation.unknown, reply.revocation.doubtful) == (0, 0, 1)
        known = ehr.revoke(f"\ufeff{patient()} ", source_id="with-a-mark")
        assert (known.revocation.known, known.revocation.unknown, known.revocation.doubtful) == (1, 0, 0)

    with open_ledger(hospital.folder) as ledger:
        assert ledger.is_stopped(who)
