"""A client certificate renews itself over the real channel, for the same name and key, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Engine, select

from client.membership.renewal import CertificateRenewal
from client.revocations.revocation import Waiting
from client.runtime.announcer import Announcer
from client.runtime.coordination import ask_status, connect
from client.settings import SiteFolder
from common.errors import InputError, RefusedError
from common.files import write_private
from common.platform.keys.certificates import (
    certificate_pem,
    issue_server,
    issue_site,
    load_certificate,
    new_authority,
)
from common.platform.sql import open_database, transaction
from common.protocol.coordination import coordination_pb2 as messages
from server.database import EventRow, SiteRow, migrate
from server.membership.coordination import Coordination, serve
from server.membership.enrolment import revoke
from server.membership.renewal import Issue
from server.registry.registry import Registry

NOW = datetime.now(UTC)
ENROLLED = NOW - timedelta(days=364 - 25)
"""TLS looks at the real clock, so the past is shifted: the certificate has 26 days left today."""


class NoHoldings:
    def held(self) -> tuple[str, ...]:
        return ()

    def retire(self, _digests: object) -> tuple[str, ...]:
        return ()

    def acknowledged(self, _digests: object) -> None:
        return None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class World:
    """A coordinator with a real service, and the folder of a hospital that enrolled 339 days ago."""

    root: Path
    issue: Issue | None = None
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.ca = new_authority(self.ca_key, ENROLLED - timedelta(days=10))
        self.issue = self.issue or (lambda old, now: issue_site(self.ca, self.ca_key, _key(old), "north", now))
        self.engine: Engine = open_database(f"sqlite:///{self.root / 'server.db'}")
        migrate(self.engine)
        self.site = SiteFolder(self.root / "north")
        self.site.ca_certificate.parent.mkdir(parents=True)
        self.site.ca_certificate.write_bytes(certificate_pem(self.ca))
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(self.site.tls_key, _pem(key))
        self.first = certificate_pem(issue_site(self.ca, self.ca_key, key.public_key(), "north", ENROLLED))
        self.site.certificate.write_bytes(self.first)
        with transaction(self.engine) as session:
            row = SiteRow(name="north", state="active", node_key="", signing_key="", enrolled=ENROLLED)
            row.certificate = self.first.decode()
            session.add(row)

        server_key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_server(self.ca, self.ca_key, server_key.public_key(), ["localhost"], NOW)
        versions = Registry(self.root / "models", self.engine, lambda: NOW).deliveries
        service = Coordination(self.engine, lambda: NOW, versions, issue=self._issue)
        self.server, port = serve(
            service,
            "127.0.0.1:0",
            certificate=certificate_pem(issued),
            key=_pem(server_key),
            ca=certificate_pem(self.ca),
        )
        self.site.settings_file.write_text(
            f'name = "north"\ngateway = "localhost:1"\ncoordination = "127.0.0.1:{port}"\nca_fingerprint = ""\n'
        )

    def _issue(self, old: x509.Certificate, now: datetime) -> x509.Certificate:
        """Looked up at each call, so that a test can change it."""
        assert self.issue is not None
        return self.issue(old, now)

    def row(self) -> SiteRow:
        with transaction(self.engine) as session:
            return session.get_one(SiteRow, "north")

    def events(self) -> list[str]:
        with transaction(self.engine) as session:
            return list(session.scalars(select(EventRow.detail).where(EventRow.kind == "certificate")))

    def announcer(self) -> Announcer:
        return Announcer(
            connect=lambda: connect(self.site),
            waiting=lambda: Waiting(0, None),
            holdings=NoHoldings(),
            every=60.0,
            clock=lambda: NOW,
            rng=random.Random(0),
            version="0.1.0",
            renewal=CertificateRenewal(self.site, lambda: NOW),
        )

    def ask(self) -> str:
        with connect(self.site) as stub:
            return str(stub.RenewCertificate(messages.RenewCertificateRequest(), timeout=10).certificate)

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.ask()
        return caught.value.code(), caught.value.details()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.server.stop(None).wait()
    made.engine.dispose()


def test_a_site_renews_in_time_and_the_old_certificate_ends_when_the_new_one_is_used(world: World) -> None:
    announcer = world.announcer()
    announcer.step(0.0)
    renewed = load_certificate(world.site.certificate)
    assert renewed.not_valid_after_utc > NOW + timedelta(days=364)
    assert world.row().certificate.encode() == world.first, "the old one holds until the new one is used"

    announcer.step(1.0)
    announcer.close()
    assert world.row().certificate.encode() == certificate_pem(renewed)
    assert world.row().next_certificate is None
    assert [text.partition(",")[0] for text in world.events()] == ["issued anew for the same key", "renewed"]

    ask_status(world.site)
    world.site.certificate.write_bytes(world.first)
    with pytest.raises(RefusedError):
        ask_status(world.site)


def test_an_answer_that_is_lost_costs_nothing(world: World) -> None:
    first_answer = world.ask()
    assert world.ask() == first_answer
    ask_status(world.site)
    assert world.row().certificate.encode() == world.first
    world.site.certificate.write_text(first_answer)
    ask_status(world.site)
    assert world.row().certificate == first_answer


def test_nothing_is_renewed_before_its_last_30_days(world: World) -> None:
    world.site.certificate.write_text(world.ask())
    code, reason = world.refusal()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "not renewed yet" in reason
    before = world.site.certificate.read_bytes()
    world.announcer().step(0.0)
    assert world.site.certificate.read_bytes() == before


def test_a_suspended_site_renews_and_stays_suspended_and_a_revoked_one_gets_nothing(world: World) -> None:
    with transaction(world.engine) as session:
        session.get_one(SiteRow, "north").state = "suspended"
    renewed = world.ask()
    assert world.row().state == "suspended"
    with transaction(world.engine) as session:
        revoke(session, "north", "left", NOW)
    assert world.refusal()[0] is grpc.StatusCode.PERMISSION_DENIED
    world.site.certificate.write_text(renewed)
    assert world.refusal()[0] is grpc.StatusCode.PERMISSION_DENIED


def test_without_the_authoritys_key_the_site_goes_on_with_its_certificate(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def without_key(*_: object) -> None:
        raise InputError("cannot read: No such file or directory", where="ca.key")

    world.issue = without_key  # type: ignore[assignment]
    announcer = world.announcer()
    announcer.step(0.0)
    announcer.step(61.0)
    announcer.close()
    assert world.site.certificate.read_bytes() == world.first
    told = [record.getMessage() for record in caplog.records if "did not renew" in record.getMessage()]
    assert told == [
        "the coordinator did not renew this site's certificate: the authority's key is not at the coordinator: "
        "send an enrolment request"
    ]
    assert world.row().seen is not None


@pytest.mark.parametrize("fault", ["another key", "another name", "another authority", "shorter", "not a certificate"])
def test_a_site_takes_no_certificate_but_its_own(world: World, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    faults: dict[str, Issue] = {
        "another key": lambda _, now: issue_site(world.ca, world.ca_key, stranger.public_key(), "north", now),
        "another name": lambda old, now: issue_site(world.ca, world.ca_key, _key(old), "south", now),
        "another authority": lambda old, now: issue_site(
            new_authority(stranger, now), stranger, _key(old), "north", now
        ),
        "shorter": lambda old, now: issue_site(world.ca, world.ca_key, _key(old), "north", now - timedelta(days=340)),
    }
    with transaction(world.engine) as session:
        row = session.get_one(SiteRow, "north")
        issue = faults.get(fault)
        current = load_certificate(world.site.certificate)
        row.next_certificate = certificate_pem(issue(current, NOW)).decode() if issue else "nothing"

    with connect(world.site) as stub:
        reply = messages.RenewCertificateReply(certificate=world.row().next_certificate or "")
        stub.RenewCertificate = lambda *_, **__: reply
        assert CertificateRenewal(world.site, lambda: NOW).step(stub) is False
    assert world.site.certificate.read_bytes() == world.first
    assert "is not renewed" in caplog.text


def _key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key
