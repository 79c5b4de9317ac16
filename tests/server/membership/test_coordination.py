from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from common.errors import UnavailableError
from common.platform.keys.certificates import certificate_pem, issue_server, issue_site, new_authority
from common.platform.listening.rate_limit import RateLimit
from common.platform.sql import open_database, transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.bounds import MAX_MESSAGE_BYTES
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub
from common.protocol.recipients import Recipient, digest_of, from_messages
from server.database import CampaignRow, DeliveryRow, EventRow, SiteRow, VersionRow, migrate
from server.membership import linkage
from server.membership.coordination import MAX_PENDING, SERVICE, Coordination, serve
from server.membership.recipients import lists_for
from server.registry.manifest import Manifest, Provenance
from server.registry.registry import Registry

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = "a" * 64
NEW = "b" * 64

on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Authority:
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.certificate = new_authority(self.key, datetime.now(UTC))
        self.pem = certificate_pem(self.certificate)

    def server(self) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_server(self.certificate, self.key, key.public_key(), ["localhost"], datetime.now(UTC))
        return certificate_pem(issued), _pem(key)

    def site(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_site(self.certificate, self.key, key.public_key(), name, datetime.now(UTC))
        return certificate_pem(issued), _pem(key)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Service:
    port: int
    engine: Engine
    clock: Clock
    authority: Authority
    identities: dict[str, tuple[bytes, bytes]]
    open: ExitStack

    def channel(self, identity: tuple[bytes, bytes] | None, ca: bytes | None = None) -> grpc.Channel:
        certificate, key = identity or (None, None)
        credentials = grpc.ssl_channel_credentials(ca or self.authority.pem, key, certificate)
        return self.open.enter_context(grpc.secure_channel(f"localhost:{self.port}", credentials))

    def stub(self, name: str = "north") -> CoordinationStub:
        return CoordinationStub(self.channel(self.identities[name]))

    def site(self, name: str = "north") -> SiteRow:
        with transaction(self.engine) as session:
            return session.get_one(SiteRow, name)

    def events(self) -> list[tuple[str | None, str, str]]:
        with transaction(self.engine) as session:
            return [(e.site, e.kind, e.detail) for e in session.scalars(select(EventRow).order_by(EventRow.id))]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def identities(authority: Authority) -> dict[str, tuple[bytes, bytes]]:
    return {name: authority.site(name) for name in ("north", "south", "gone", "stranger")}


@pytest.fixture
def service(
    tmp_path: Path,
    database: Callable[[str], str],
    authority: Authority,
    identities: dict[str, tuple[bytes, bytes]],
) -> Iterator[Service]:
    engine = open_database(database("server"))
    migrate(engine)

    with transaction(engine) as session:
        for name, state in {"north": "active", "south": "suspended", "gone": "revoked"}.items():
            pem = identities[name][0].decode()
            session.add(SiteRow(name=name, state=state, node_key="", signing_key="", certificate=pem, enrolled=START))

    clock = Clock()
    coordination = Coordination(
        engine, clock, Registry(tmp_path / "models", engine, clock).deliveries, RateLimit(20, 1)
    )
    certificate, key = authority.server()
    server, port = serve(coordination, "localhost:0", certificate=certificate, key=key, ca=authority.pem)
    with ExitStack() as stack:
        yield Service(port, engine, clock, authority, identities, stack)
    server.stop(None).wait()
    engine.dispose()


def heartbeat(clock: Clock, *held: str, version: str = "0.1.0") -> messages.HeartbeatRequest:
    request = messages.HeartbeatRequest(version=version, held=held)
    request.clock.FromDatetime(clock.now)
    return request


def announce(pending: int, due: datetime | None = None) -> messages.AnnounceRequest:
    request = messages.AnnounceRequest(pending=pending)
    if due is not None:
        request.first_due.FromDatetime(due)
    return request


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def deliver(engine: Engine, name: str, digest: str, state: str, site: str = "north") -> None:
    """A site got a version that now is in `state`."""
    manifest = Manifest(
        name=name,
        created=START,
        parent=None,
        campaign=None,
        weights=digest,
        files={},
        provenance=Provenance(round=0, run=None, code="", config="", sites=()),
    )

    with transaction(engine) as session:
        session.add(
            VersionRow(
                name=name,
                state=state,
                manifest_digest="",
                created=START,
                state_since=START,
                manifest=manifest.model_dump(mode="json"),
            )
        )
        session.flush()
        session.add(DeliveryRow(version=name, site=site, sent=START))


@on_both
def test_an_announcement_is_taken_down_with_when_waiting_began(service: Service) -> None:
    stub = service.stub()
    due = START + timedelta(days=20)
    stub.Announce(announce(3, due))
    site = service.site()
    assert (site.pending, site.first_due, site.announced) == (3, due, START)
    service.clock.now += timedelta(hours=1)
    stub.Announce(announce(4, due))
    assert (service.site().pending, service.site().announced) == (4, START)
    stub.Announce(announce(1))
    assert (service.site().first_due, service.site().announced) == (None, START + timedelta(hours=1))
    stub.Announce(announce(0))
    assert (service.site().pending, service.site().announced) == (0, None)


def test_an_event_is_written_when_an_announcement_changes_something_and_only_then(service: Service) -> None:
    stub = service.stub()
    stub.Announce(announce(2, START + timedelta(days=1)))
    stub.Announce(announce(2, START + timedelta(days=1)))
    assert service.events() == [("north", "announced", "2 waiting, first due 2026-03-02T12:00:00+00:00")]


@on_both
def test_a_heartbeat_leaves_its_time_and_version_and_brings_the_coordinators_clock(service: Service) -> None:
    reply = service.stub().Heartbeat(heartbeat(service.clock))
    assert reply.clock.ToDatetime(tzinfo=UTC) == START
    assert list(reply.purge) == []
    assert (service.site().seen, service.site().version) == (START, "0.1.0")
    assert service.events() == [("north", "version", "none -> 0.1.0")]


def test_a_site_is_asked_to_delete_what_it_got_of_quarantined_and_withdrawn_versions(service: Service) -> None:
    deliver(service.engine, "v1", OLD, "quarantined")
    deliver(service.engine, "v2", NEW, "withdrawn")
    deliver(service.engine, "v3", "c" * 64, "active")
    deliver(service.engine, "v4", "d" * 64, "quarantined", site="south")
    assert list(service.stub().Heartbeat(heartbeat(service.clock)).purge) == [OLD, NEW]


@on_both
def test_an_acknowledged_deletion_is_not_asked_for_again_until_the_site_holds_a_copy_again(service: Service) -> None:
    deliver(service.engine, "v1", OLD, "quarantined")
    stub = service.stub()
    stub.AcknowledgePurge(messages.AcknowledgePurgeRequest(digests=[OLD, NEW]))
    with transaction(service.engine) as session:
        assert session.get_one(DeliveryRow, ("v1", "north")).purged == START
    assert list(stub.Heartbeat(heartbeat(service.clock)).purge) == []
    assert list(stub.Heartbeat(heartbeat(service.clock, OLD)).purge) == [OLD]
    kinds = [(kind, detail) for _, kind, detail in service.events() if kind != "version"]
    assert kinds == [("purged", "v1"), ("held-again", "v1")]


def test_no_site_can_acknowledge_for_another(service: Service) -> None:
    deliver(service.engine, "v1", OLD, "quarantined")
    service.stub("south").AcknowledgePurge(messages.AcknowledgePurgeRequest(digests=[OLD]))
    assert list(service.stub("north").Heartbeat(heartbeat(service.clock)).purge) == [OLD]


@on_both
def test_a_site_hears_who_received_its_versions_and_of_no_others(service: Service) -> None:
    deliver(service.engine, "v1", OLD, "active")
    deliver(service.engine, "v2", NEW, "superseded", site="south")
    ask = messages.ListRecipientsRequest()
    ask.known.add(weights=OLD)
    (listed,) = service.stub().ListRecipients(ask).versions
    assert listed.weights == OLD
    (recipient,) = from_messages(listed.recipients)
    assert (recipient.kind, recipient.name, recipient.deleted) == ("hospital", "north", None)

    known = messages.ListRecipientsRequest()
    known.known.add(weights=OLD, digest=digest_of([recipient]))
    assert service.stub().ListRecipients(known) == messages.ListRecipientsReply()
    bad = messages.ListRecipientsRequest()
    bad.known.add(weights="x")
    assert refused(lambda: service.stub().ListRecipients(bad))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_long_lists_of_recipients_come_in_several_answers() -> None:
    lists = {digest * 64: [Recipient("hospital", f"h{n}", START, None) for n in range(1_500)] for digest in "abc"}
    request = messages.ListRecipientsRequest()
    collected = []
    while True:
        reply = lists_for(request, lists)
        for one in reply.versions:
            collected.append(one.weights)
            request.known.add(weights=one.weights, digest=digest_of(from_messages(one.recipients)))
        if not reply.more:
            break
    assert collected == list(lists)


@on_both
def test_status_shows_the_standing_and_the_campaign_that_runs(service: Service) -> None:
    service.stub().Announce(announce(2))
    with transaction(service.engine) as session:
        for state, running in (("published", None), ("retaining", True)):
            session.add(
                CampaignRow(kind="unlearning", state=state, open=running, created=START, changed=START, settings={})
            )

    status = service.stub().Status(messages.StatusRequest())
    assert (status.standing, status.pending, status.campaign) == (messages.StatusReply.STANDING_ACTIVE, 2, "retaining")
    assert status.version == version("fedforget")


def test_a_suspended_site_is_still_heard(service: Service) -> None:
    stub = service.stub("south")
    stub.Announce(announce(1))
    assert service.site("south").pending == 1
    assert stub.Status(messages.StatusRequest()).standing == messages.StatusReply.STANDING_SUSPENDED


@on_both
@pytest.mark.parametrize("name", ["gone", "stranger"])
def test_a_revoked_and_an_unknown_site_are_denied_every_method_and_leave_nothing(service: Service, name: str) -> None:
    stub = service.stub(name)
    for call in (
        lambda: stub.Announce(announce(1)),
        lambda: stub.Heartbeat(heartbeat(service.clock)),
        lambda: stub.AcknowledgePurge(messages.AcknowledgePurgeRequest(digests=[OLD])),
        lambda: stub.Status(messages.StatusRequest()),
        lambda: stub.ExchangeTokens(messages.ExchangeTokensRequest(tokens=[b"t" * 32])),
    ):
        code, details = refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert details == "this certificate is not that of an approved site"

    assert service.events() == []


def test_a_revocation_counts_on_a_connection_that_is_already_open(service: Service) -> None:
    stub = service.stub()
    stub.Announce(announce(1))
    with transaction(service.engine) as session:
        session.get_one(SiteRow, "north").state = "revoked"
    assert refused(lambda: stub.Announce(announce(2)))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert service.site().pending == 1


def test_a_certificate_that_was_rotated_out_is_denied_and_the_new_one_is_not(service: Service) -> None:
    fresh = service.authority.site("north")
    with transaction(service.engine) as session:
        session.get_one(SiteRow, "north").certificate = fresh[0].decode()
    assert refused(lambda: service.stub().Announce(announce(1)))[0] is grpc.StatusCode.PERMISSION_DENIED
    CoordinationStub(service.channel(fresh)).Announce(announce(1))
    assert service.site().pending == 1


def test_a_client_without_a_certificate_does_not_get_past_the_handshake(service: Service) -> None:
    for identity in (None, Authority().site("north")):
        stub = CoordinationStub(service.channel(identity))
        call = partial(stub.Announce, announce(1), timeout=5)
        assert refused(call)[0] is grpc.StatusCode.UNAVAILABLE

    assert service.site().pending == 0


def test_a_site_does_not_speak_to_a_server_of_another_authority(service: Service) -> None:
    stub = CoordinationStub(service.channel(service.identities["north"], ca=Authority().pem))
    assert refused(lambda: stub.Announce(announce(1), timeout=5))[0] is grpc.StatusCode.UNAVAILABLE


def test_values_that_no_site_can_mean_are_refused_and_change_nothing(service: Service) -> None:
    stub = service.stub()
    far = START + timedelta(days=4000)
    broken = Timestamp(seconds=2**60)

    for call in (
        lambda: stub.Announce(announce(MAX_PENDING + 1)),
        lambda: stub.Announce(announce(1, far)),
        lambda: stub.Announce(announce(0, START)),
        lambda: stub.Announce(messages.AnnounceRequest(pending=1, first_due=broken)),
        lambda: stub.Heartbeat(heartbeat(service.clock, version="a b")),
        lambda: stub.Heartbeat(heartbeat(service.clock, version="")),
        lambda: stub.Heartbeat(heartbeat(service.clock, "../model")),
        lambda: stub.Heartbeat(messages.HeartbeatRequest(version="0.1.0", clock=Timestamp(seconds=-(2**60)))),
        lambda: stub.AcknowledgePurge(messages.AcknowledgePurgeRequest(digests=[f"{n:064x}" for n in range(1001)])),
        lambda: stub.ExchangeTokens(messages.ExchangeTokensRequest(tokens=[b"t" * 31])),
        lambda: stub.ExchangeTokens(messages.ExchangeTokensRequest(tokens=[b"t" * 32] * 1001)),
        lambda: stub.ExchangeTokens(messages.ExchangeTokensRequest(after=2**40)),
    ):
        assert refused(call)[0] is grpc.StatusCode.INVALID_ARGUMENT

    assert (service.site().pending, service.site().seen, service.events()) == (0, None, [])


def test_tokens_are_neither_kept_nor_handed_on_while_linkage_is_off(
    service: Service, authority: Authority, tmp_path: Path
) -> None:
    registry = Registry(tmp_path, service.engine, service.clock)
    certificate, key = authority.server()
    off = Coordination(service.engine, service.clock, registry.deliveries, linkage=False)
    server, port = serve(off, "localhost:0", certificate=certificate, key=key, ca=authority.pem)
    stub = replace(service, port=port).stub()
    request = messages.ExchangeTokensRequest(tokens=[b"t" * 32])
    refusal = refused(lambda: stub.ExchangeTokens(request))
    with transaction(service.engine) as session:
        assert not linkage.in_use(session)
    assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "linkage is off at the coordinator")
    # Where tokens were handed on before there was a switch, they still are.
    service.stub().ExchangeTokens(request)
    stub.ExchangeTokens(request)
    server.stop(None).wait()


def test_a_message_beyond_the_limit_is_not_read(service: Service) -> None:
    held = [OLD] * (MAX_MESSAGE_BYTES // 60)
    assert refused(lambda: service.stub().Heartbeat(heartbeat(service.clock, *held)))[0] is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def test_a_site_that_calls_too_often_is_slowed_down_and_the_others_are_not(service: Service) -> None:
    north = service.stub("north")
    for _ in range(20):
        north.Announce(announce(1))
    assert refused(lambda: north.Announce(announce(1)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    service.stub("south").Announce(announce(1))
    service.clock.now += timedelta(seconds=1)
    north.Announce(announce(2))
    assert service.site().pending == 2


@on_both
def test_a_database_that_fails_reads_as_try_again_without_a_word_about_it(service: Service) -> None:
    with transaction(service.engine) as session:
        session.execute(select(1))
        session.connection().exec_driver_sql("alter table sites rename to hidden")

    assert refused(lambda: service.stub().Announce(announce(1))) == (grpc.StatusCode.UNAVAILABLE, "try again later")


def test_a_fault_of_the_service_reads_as_internal_error_without_a_word_about_it(service: Service) -> None:
    deliver(service.engine, "v1", OLD, "quarantined")
    with transaction(service.engine) as session:
        session.get_one(VersionRow, "v1").manifest = {}
    assert refused(lambda: service.stub().Heartbeat(heartbeat(service.clock))) == (
        grpc.StatusCode.INTERNAL,
        "internal error",
    )


def test_the_health_service_answers_and_asks_for_a_certificate_too(service: Service) -> None:
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    inside = health_pb2_grpc.HealthStub(service.channel(service.identities["north"]))
    assert inside.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    outside = health_pb2_grpc.HealthStub(service.channel(None))
    assert refused(lambda: outside.Check(request, timeout=5))[0] is grpc.StatusCode.UNAVAILABLE


def test_an_address_that_is_taken_is_told(service: Service, authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.server()
    with pytest.raises(UnavailableError, match="cannot listen"):
        serve(
            Coordination(service.engine, service.clock, Registry(tmp_path, service.engine, service.clock).deliveries),
            f"localhost:{service.port}",
            certificate=certificate,
            key=key,
            ca=authority.pem,
        )


WORDS = st.sampled_from(["", "0.1.0", "a" * 64, "A" * 64, "../..", "\x1b[31m", "x" * 5000, "\u202e", "b" * 63])
COUNTS = st.sampled_from([0, 1, MAX_PENDING, MAX_PENDING + 1, 2**32 - 1])
STAMPS = st.builds(
    Timestamp,
    seconds=st.sampled_from([0, 1, -1, 2**62, -(2**62), 253402300799, -62135596800, 1772366400]),
    nanos=st.sampled_from([0, -1, 999_999_999, 2**31 - 1]),
)
BLOBS = st.binary(max_size=80)
ODD_CALLS = {
    "Announce": st.builds(messages.AnnounceRequest, pending=COUNTS, first_due=st.none() | STAMPS),
    "Heartbeat": st.builds(
        messages.HeartbeatRequest, version=WORDS, held=st.lists(WORDS, max_size=3), clock=st.none() | STAMPS
    ),
    "AcknowledgePurge": st.builds(messages.AcknowledgePurgeRequest, digests=st.lists(WORDS, max_size=3)),
    "Status": st.just(messages.StatusRequest()),
    "ExchangeTokens": st.builds(
        messages.ExchangeTokensRequest, tokens=st.lists(BLOBS, max_size=3), after=st.sampled_from([0, 2**31, 2**63])
    ),
}
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION}


@pytest.mark.parametrize("call", ODD_CALLS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_an_odd_call_is_refused_in_one_line_and_changes_nothing_of_another_site(
    service: Service, call: str, data: st.DataObject
) -> None:
    service.clock.now += timedelta(minutes=1)
    code = grpc.StatusCode.OK

    try:
        getattr(service.stub(), call)(data.draw(ODD_CALLS[call]))
    except grpc.RpcError as error:
        code = error.code()

    assert code in REFUSALS | {grpc.StatusCode.OK}
    assert service.site("south").pending == 0
    assert {site for site, _, _ in service.events()} <= {"north"}
    assert all(detail.isprintable() and detail.isascii() for _, _, detail in service.events())
