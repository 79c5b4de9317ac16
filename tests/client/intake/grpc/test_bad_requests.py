"""What must not come in: a clear answer each, nothing written, and no identifier in any log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.intake.fhir.resources import read_incoming
from client.intake.grpc.authority import add_client, remove_client
from client.intake.grpc.gate import STREAMS_OF_ONE, Gate
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_api.consent_pb2_grpc import ConsentServiceStub
from client.intake.permission import permissions_of
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from client.settings_sections import ConsentServiceConfig
from common.errors import RefusedError, UnavailableError
from common.platform.keys.certificates import certificate_pem, issue_role, load_certificate, new_authority
from common.platform.keys.private_keys import load_ec_key, new_tls_key, read_passphrase
from common.platform.listening.rate_limit import RateLimit

Code = grpc.StatusCode
NOW = datetime.now(UTC)
KNOWN = "MRN-0815-MUELLER-0"
CONSENTED = "MRN-0815-MUELLER-1"
METHOD = "/fedforget.consent.v1.ConsentService/RevokeConsent"


def request(**more: Any) -> messages.RevokeConsentRequest:
    received = more.pop("received", None)
    message = messages.RevokeConsentRequest(**{"patient": KNOWN, "source_id": "form-4711", **more})
    if received is not None:
        message.received.FromDatetime(received)
    return message


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def written(folder: SiteFolder) -> object:
    with open_ledger(folder) as ledger:
        vault = sorted(path.name for path in folder.vault.iterdir()) if folder.vault.exists() else []
        return ledger.standing(), ledger.stopped(), vault, ledger.identifiers()


@pytest.fixture
def unchanged(hospital: Any) -> Iterator[None]:
    """Nothing is written while the test runs."""
    before = written(hospital.folder)
    yield
    assert written(hospital.folder) == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (request(patient=""), Code.INVALID_ARGUMENT, "patient is an empty identifier"),
        (request(patient=KNOWN + "\x00"), Code.INVALID_ARGUMENT, "patient is an identifier with a control character"),
        (request(patient="1.2346E+11"), Code.INVALID_ARGUMENT, "patient is an identifier in scientific notation"),
        (request(patient="M" * 201), Code.INVALID_ARGUMENT, "patient is an identifier of more than 200 characters"),
        (request(patient="MRN-0815-MUELLER-unknown"), Code.NOT_FOUND, "this patient is not known"),
        (request(source_id=""), Code.INVALID_ARGUMENT, "source_id"),
        (request(source_id="a/b"), Code.INVALID_ARGUMENT, "source_id"),
        (request(source_version="x" * 65), Code.INVALID_ARGUMENT, "source_version"),
        (request(scope=99), Code.INVALID_ARGUMENT, "scope"),
        (request(received=NOW + timedelta(days=1)), Code.INVALID_ARGUMENT, "received is in the future"),
        (request(received=NOW - timedelta(days=4000)), Code.INVALID_ARGUMENT, "more than ten years ago"),
        (request(requester="x" * 201), Code.INVALID_ARGUMENT, "requester"),
        (request(identity_check="pass\nport"), Code.INVALID_ARGUMENT, "identity_check"),
        (request(document=b"x" * (2**20 + 1)), Code.INVALID_ARGUMENT, "document"),
        (request(document=b"x" * 2**21), Code.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_a_request_that_is_wrong_is_answered_clearly_and_not_quoted(
    hospital: Any, message: messages.RevokeConsentRequest, code: grpc.StatusCode, says: str
) -> None:
    with hospital.channel("ehr-1") as channel:
        found, text = refused(lambda: ConsentServiceStub(channel).RevokeConsent(message, timeout=20))
    assert found is code
    assert says in text
    assert "MRN" not in text


def test_a_moment_that_no_calendar_has_is_refused(hospital: Any, unchanged: None) -> None:
    message = request()
    message.received.seconds = 2**60
    with hospital.channel("ehr-1") as channel:
        code, text = refused(lambda: ConsentServiceStub(channel).RevokeConsent(message, timeout=20))
    assert (code, text) == (Code.INVALID_ARGUMENT, "received is not a valid timestamp")


def test_a_revocation_from_before_the_first_consent_is_refused(hospital: Any) -> None:
    consent = {
        "resourceType": "Consent",
        "id": "c-1",
        "meta": {"versionId": "1"},
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "patient": {"reference": f"Patient/{CONSENTED}"},
        "dateTime": "2024-03-01T10:00:00+01:00",
    }
    with open_ledger(hospital.folder) as ledger:
        permissions_of(ledger).store.keep([read_incoming(consent)], NOW)
    before = written(hospital.folder)
    early = request(patient=CONSENTED, received=datetime(2024, 2, 29, tzinfo=UTC))

    with hospital.channel("ehr-1") as channel:
        stub = ConsentServiceStub(channel)
        code, text = refused(lambda: stub.RevokeConsent(early, timeout=20))
        assert (code, text[:42]) == (Code.FAILED_PRECONDITION, "received is before the patient's first con")
        assert written(hospital.folder) == before
        on_the_day = request(patient=CONSENTED, received=datetime(2024, 3, 2, tzinfo=UTC))
        assert stub.RevokeConsent(on_the_day, timeout=20).created


@pytest.mark.parametrize("changed", [{"patient": "MRN-0815-MUELLER-3"}, {"scope": messages.SCOPE_IMAGES}])
def test_a_name_and_version_that_stand_for_another_revocation_are_refused(hospital: Any, changed: Any) -> None:
    sent = {"patient": "MRN-0815-MUELLER-2", "source_id": "form-replayed"}
    with hospital.channel("ehr-1") as channel:
        stub = ConsentServiceStub(channel)
        stub.RevokeConsent(request(**sent), timeout=20)
        before = written(hospital.folder)
        code, text = refused(lambda: stub.RevokeConsent(request(**{**sent, **changed}), timeout=20))

    assert (code, text[:22]) == (Code.FAILED_PRECONDITION, "a different revocation")
    assert written(hospital.folder) == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("client", "method"),
    [
        ("audit", "RevokeConsent"),
        ("audit", "CheckPermission"),
        ("ehr-1", "ListRevocations"),
        ("ehr-1", "WatchRevocation"),
    ],
)
def test_a_role_that_may_not_is_told_so(hospital: Any, client: str, method: str) -> None:
    asked = getattr(messages, f"{method}Request")()
    with hospital.channel(client) as channel:
        answer = getattr(ConsentServiceStub(channel), method)
        code, text = refused(
            lambda: list(answer(asked, timeout=20)) if method.startswith("Watch") else answer(asked, timeout=20)
        )

    role = {"audit": "auditor"}.get(client, "ehr")
    assert (code, text) == (Code.PERMISSION_DENIED, f"the role {role} may not call {method}")


def other_authority(folder: SiteFolder, into: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    own = new_tls_key(into / "client.key")
    issued = issue_role(new_authority(key, now), key, own.public_key(), "desk", "steward", now)
    (into / "client.crt").write_bytes(certificate_pem(issued))


def without_a_role(folder: SiteFolder, into: Path) -> None:
    room = folder.consent_service
    ca_key = load_ec_key(room / "ca.key", read_passphrase(folder.passphrase))
    own = new_tls_key(into / "client.key")
    ca = load_certificate(room / "ca.crt")
    issued = issue_role(ca, ca_key, own.public_key(), "desk", "cleaner", datetime.now(UTC))
    (into / "client.crt").write_bytes(certificate_pem(issued))


def expired(folder: SiteFolder, into: Path) -> None:
    for name in ("client.key", "client.crt"):
        (into / name).write_bytes((folder.consent_service / "handover" / "late" / name).read_bytes())


def withdrawn(folder: SiteFolder, into: Path) -> None:
    made = add_client(folder, "gone", "steward", datetime.now(UTC))
    for name in ("client.key", "client.crt"):
        (into / name).write_bytes((made / name).read_bytes())
    remove_client(folder, "gone")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (other_authority, Code.UNAVAILABLE),
        (expired, Code.UNAVAILABLE),
        (without_a_role, Code.PERMISSION_DENIED),
        (withdrawn, Code.PERMISSION_DENIED),
    ],
)
def test_a_certificate_that_does_not_count_opens_nothing(
    hospital: Any, tmp_path: Path, make: Callable[[SiteFolder, Path], None], code: grpc.StatusCode
) -> None:
    make(hospital.folder, tmp_path)
    ca = (hospital.handed_to("desk") / "ca.crt").read_bytes()
    key, certificate = ((tmp_path / name).read_bytes() for name in ("client.key", "client.crt"))

    with grpc.secure_channel(hospital.address, grpc.ssl_channel_credentials(ca, key, certificate)) as channel:
        found, _ = refused(lambda: ConsentServiceStub(channel).RevokeConsent(request(), timeout=20))
        assert found is code
        checked, _ = refused(
            lambda: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        )
        listing = ServerReflectionRequest(list_services="")
        listed, _ = refused(
            lambda: list(ServerReflectionStub(channel).ServerReflectionInfo(iter([listing]), timeout=20))
        )
        assert listed is checked is code


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("secure", [True, False])
def test_nobody_gets_in_without_a_certificate_or_without_tls(hospital: Any, secure: bool) -> None:
    credentials = grpc.ssl_channel_credentials((hospital.handed_to("desk") / "ca.crt").read_bytes())
    address = hospital.address

    with grpc.secure_channel(address, credentials) if secure else grpc.insecure_channel(address) as channel:
        code, _ = refused(lambda: ConsentServiceStub(channel).RevokeConsent(request(), timeout=20))
        listing = ServerReflectionRequest(list_services="")
        listed, _ = refused(
            lambda: list(ServerReflectionStub(channel).ServerReflectionInfo(iter([listing]), timeout=20))
        )

    assert listed is code is Code.UNAVAILABLE


def test_a_server_that_asked_for_no_certificate_would_let_nobody_through_the_gate() -> None:
    gate = Gate(ConsentServiceConfig().roles, frozenset, RateLimit(), lambda: NOW)
    server = grpc.server(ThreadPoolExecutor(1), interceptors=[gate])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        code, _ = refused(
            lambda: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        )

    server.stop(0).wait()
    assert code is Code.UNAUTHENTICATED


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("seconds", [None, 61.0])
def test_a_call_without_a_deadline_or_with_a_long_one_is_refused(hospital: Any, seconds: float | None) -> None:
    with hospital.channel("ehr-1") as channel:
        code, text = refused(lambda: ConsentServiceStub(channel).RevokeConsent(request(), timeout=seconds))
    assert (code, text) == (Code.INVALID_ARGUMENT, "a deadline of at most 60 s is needed")


@pytest.mark.usefixtures("unchanged")
def test_a_client_that_calls_too_often_is_told_so_and_others_are_not(new_hospital: Callable[..., Any]) -> None:
    one = new_hospital("calls_per_second = 0.001\nburst = 3")
    one.start()

    with one.client("ehr-1") as eager, one.client("ehr-2") as other:
        for _ in range(3):
            eager.check(KNOWN)
        with pytest.raises(UnavailableError, match=r"too many calls.*\(RESOURCE_EXHAUSTED\)"):
            eager.check(KNOWN)
        other.check(KNOWN)


def test_a_client_cannot_hold_all_streams_of_the_service(hospital: Any) -> None:
    asked = messages.WatchRevocationRequest()
    with hospital.client("desk") as desk, hospital.client("audit") as auditor:
        desk.revoke("MRN-0815-MUELLER-4", source_id="streams")
        held = [desk.stub.WatchRevocation(asked, timeout=60) for _ in range(STREAMS_OF_ONE)]
        for stream in held:
            next(stream)
        code, text = refused(lambda: next(desk.stub.WatchRevocation(asked, timeout=60)))
        assert (code, text) == (Code.RESOURCE_EXHAUSTED, "too many open streams")
        assert next(auditor.stub.WatchRevocation(asked, timeout=60)).sequence == 1


def test_the_client_turns_refusals_into_errors_of_ours(hospital: Any, unchanged: None) -> None:
    with hospital.client("audit") as auditor, pytest.raises(RefusedError, match="may not call RevokeConsent"):
        auditor.revoke(KNOWN, source_id="form-4711")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80))
def test_no_bytes_make_the_service_fail_or_leave_anything(hospital: Any, unchanged: None, data: bytes) -> None:
    with hospital.channel("ehr-1") as channel:
        code, text = refused(lambda: channel.unary_unary(METHOD)(data, timeout=20))
    assert code is Code.INVALID_ARGUMENT, text


TEXTS = st.text(max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "patient": TEXTS | st.just(KNOWN + "x"),
            "source_version": TEXTS,
            "scope": st.integers(-(2**31), 2**31 - 1),
            "requester": TEXTS,
            "document": st.binary(max_size=30),
        },
    )
)
def test_no_field_however_strange_makes_the_service_fail(hospital: Any, unchanged: None, fields: Any) -> None:
    message = request(**{"patient": "MRN-0815-MUELLER-nobody", **fields})
    with hospital.channel("ehr-1") as channel:
        code, text = refused(lambda: ConsentServiceStub(channel).RevokeConsent(message, timeout=20))
    assert code in {Code.INVALID_ARGUMENT, Code.NOT_FOUND}, text


def test_no_line_of_the_log_names_a_patient_or_a_form(hospital: Any) -> None:
    text = hospital.logged()
    assert "listening" in text
    for identifier in ("MRN", "MUELLER", "form-", "streams", "c-1"):
        assert identifier not in text, identifier
