from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Engine, select

from client import database
from client.cohort.holdings import HeldVersions
from client.cohort.recipients import ASK_EVERY, RecipientLists, heard_of
from client.database import HoldingRow
from client.revocations.deadline import months_after
from client.revocations.linkage.linking import Linking
from client.revocations.linkage.tokens import Linkage
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source, Waiting
from client.revocations.rows.ledger_tables import LinkReceivedRow
from client.revocations.workflow.decisions import extend
from client.runtime.announcer import CALL_SECONDS, Announcer, Holdings
from client.runtime.coordination import ask_status, connect
from client.settings import SiteFolder
from common.errors import InputError, RefusedError, UnavailableError
from common.files import write_private
from common.platform.actor import Actor
from common.platform.keys.certificates import certificate_pem, issue_server, issue_site, new_authority
from common.platform.sql import open_database, reading, transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub
from server.database import DeliveryRow, LinkageTokenRow, SiteRow, VersionRow, migrate
from server.membership.coordination import Coordination, serve
from server.membership.linkage import exchange
from server.registry.exports import Exports
from server.registry.manifest import Manifest, Provenance
from server.registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DUE = months_after(NOW, 1)
ROOT = Path(__file__).parents[3]
OLD = "a" * 64
NEW = "b" * 64


class Federation:
    """A coordinator's database and service, which can go and come back on the same port, and one site's folder."""

    def __init__(self, root: Path) -> None:
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = new_authority(self.ca_key, datetime.now(UTC))
        server_key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_server(self.ca, self.ca_key, server_key.public_key(), ["localhost"], datetime.now(UTC))
        self.certificate, self.key = certificate_pem(issued), _pem(server_key)
        self.engine = open_database(f"sqlite:///{root / 'server.db'}")
        migrate(self.engine)
        self.site = SiteFolder(root / "north")
        self.site.ca_certificate.parent.mkdir(parents=True)
        self.site.ca_certificate.write_bytes(certificate_pem(self.ca))
        with transaction(self.engine) as session:
            row = SiteRow(name="north", state="active", node_key="", signing_key="", certificate="", enrolled=NOW)
            session.add(row)

        self.certify()
        self.versions = Registry(root / "models", self.engine, lambda: NOW).deliveries
        self.port = 0
        self.server: grpc.Server | None = None
        self.start()
        self.site.settings_file.write_text(
            f'name = "north"\ngateway = "localhost:1"\ncoordination = "127.0.0.1:{self.port}"\n'
            'ca_fingerprint = ""\nheartbeat_seconds = 60\n'
        )

    def certify(self) -> None:
        """A fresh key and certificate, at the site and approved by the coordinator."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = certificate_pem(issue_site(self.ca, self.ca_key, key.public_key(), "north", datetime.now(UTC)))
        self.site.tls_key.unlink(missing_ok=True)
        write_private(self.site.tls_key, _pem(key))
        self.site.certificate.write_bytes(pem)
        with transaction(self.engine) as session:
            session.get_one(SiteRow, "north").certificate = pem.decode()

    def start(self) -> None:
        service = Coordination(self.engine, lambda: NOW, self.versions)
        self.server, self.port = serve(
            service,
            f"127.0.0.1:{self.port}",
            certificate=self.certificate,
            key=self.key,
            ca=certificate_pem(self.ca),
        )

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(None).wait()
            self.server = None

    def row(self) -> SiteRow:
        with transaction(self.engine) as session:
            return session.get_one(SiteRow, "north")

    def quarantine(self, name: str, digest: str) -> None:
        """A version that the site got and must delete."""
        manifest = Manifest(
            name=name,
            created=NOW,
            parent=None,
            campaign=None,
            weights=digest,
            files={},
            provenance=Provenance(round=0, run=None, code="", config="", sites=()),
        )

        with transaction(self.engine) as session:
            version = VersionRow(
                name=name,
                state="quarantined",
                manifest_digest="",
                created=NOW,
                state_since=NOW,
                manifest=manifest.model_dump(mode="json"),
            )
            session.add(version)
            session.flush()
            session.add(DeliveryRow(version=name, site="north", sent=NOW))

    def purged(self, name: str) -> bool:
        with transaction(self.engine) as session:
            return session.get_one(DeliveryRow, (name, "north")).purged is not None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Disk:
    """What lies at the site; some of it cannot be deleted now."""

    there: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    def held(self) -> Collection[str]:
        return self.there

    def retire(self, digests: Collection[str]) -> Collection[str]:
        self.there -= set(digests) - self.stuck
        return set(digests) - self.there

    def acknowledged(self, digests: Collection[str]) -> None:
        self.told |= set(digests)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.stop()
    made.engine.dispose()


@pytest.fixture
def announcer_of(federation: Federation) -> Iterator[Callable[..., Announcer]]:
    with ExitStack() as stack:

        def make(
            disk: Holdings | None = None,
            clock: Callable[[], datetime] = lambda: NOW,
            via: Callable[[], AbstractContextManager[CoordinationStub]] = lambda: connect(federation.site),
        ) -> Announcer:
            announcer = Announcer(
                connect=via,
                waiting=lambda: waiting(federation.site),
                holdings=disk or Disk(),
                every=60.0,
                clock=clock,
                rng=random.Random(0),
                version="0.1.0",
            )
            stack.callback(announcer.close)
            return announcer

        yield make


def waiting(site: SiteFolder) -> Waiting:
    with open_ledger(site) as ledger:
        return ledger.waiting()


def revoke(federation: Federation, *patients: str) -> None:
    subsets = {f"p-{number}": "train" for number in range(9)}
    (federation.site.root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
    with open_ledger(federation.site) as ledger:
        ledger.record(Request(Source("cli", "r"), "r", NOW), patients)


def test_the_first_step_announces_and_beats(federation: Federation, announcer_of: Callable[..., Announcer]) -> None:
    revoke(federation, "p-1", "p-2")
    announcer_of().step(0.0)
    row = federation.row()
    assert (row.pending, row.first_due, row.seen, row.version) == (2, DUE, NOW, "0.1.0")


def test_a_new_revocation_and_a_new_due_date_are_announced_before_the_next_heartbeat(
    federation: Federation, announcer_of: Callable[..., Announcer]
) -> None:
    announcer = announcer_of()
    announcer.step(0.0)
    revoke(federation, "p-1")
    announcer.step(1.0)
    assert (federation.row().pending, federation.row().first_due) == (1, DUE)
    with open_ledger(federation.site, lambda: NOW) as ledger:
        extend(ledger, "r", DUE + timedelta(days=2), Actor("steward"), "many requests at once")
    announcer.step(2.0)
    assert federation.row().first_due == DUE + timedelta(days=2)


def test_tokens_of_linkage_go_with_the_announcement_and_those_of_others_come_back(
    federation: Federation, announcer_of: Callable[..., Announcer], site_database: Engine
) -> None:
    with transaction(federation.engine) as session:
        session.add(SiteRow(name="south", state="active", node_key="", signing_key="", certificate="", enrolled=NOW))
        session.flush()
        exchange(session, "south", [b"\x07" * 32], 0, 1)

    linkage = Linkage((b"k" * 32,), lambda patient: patient)
    with open_ledger(federation.site) as ledger:
        announcer = announcer_of()
        announcer.links = Linking(ledger, lambda: linkage)
        announcer.step(0.0)
        revoke(federation, "p-1")
        announcer.step(1.0)

    with transaction(federation.engine) as session:
        row = session.scalars(select(LinkageTokenRow).where(LinkageTokenRow.site == "north")).one()
    assert {row.token} == linkage.tokens("p-1")
    with transaction(site_database) as session:
        assert session.scalars(select(LinkReceivedRow.token)).all() == ["07" * 32]


def test_the_site_learns_who_received_a_version_and_who_deleted_it(
    federation: Federation, announcer_of: Callable[..., Announcer], site_database: Engine
) -> None:
    federation.quarantine("v1", OLD)
    federation.quarantine("v2", NEW)
    exports = Exports(federation.engine, lambda: NOW)

    with transaction(federation.engine) as session:
        session.add(SiteRow(name="south", state="active", node_key="", signing_key="", certificate="", enrolled=NOW))
        session.flush()
        session.add(DeliveryRow(version="v1", site="south", sent=NOW))
        session.get_one(VersionRow, "v1").state = "superseded"
    with exports.recorded("v1", " University of X "):
        pass
    with transaction(site_database) as session:
        session.add(HoldingRow(digest=OLD, name="v1", received=NOW))

    times = [NOW]
    announcer = announcer_of()
    announcer.recipients = RecipientLists(site_database, lambda: times[-1])
    announcer.step(0.0)
    with reading(site_database) as session:
        lists = heard_of(session)
    # Of v2, which the coordinator believes to have sent, nothing is on record here.
    assert lists.keys() == {OLD}
    assert {(one.kind, one.name, one.deleted) for one in lists[OLD].recipients} == {
        ("hospital", "north", None),
        ("hospital", "south", None),
        ("export", "University of X", None),
    }

    exports.acknowledge("v1", "University of X")
    announcer.step(100.0)
    with reading(site_database) as session:
        assert heard_of(session) == lists
    times.append(NOW + ASK_EVERY)
    announcer.step(200.0)
    with reading(site_database) as session:
        (listed,) = heard_of(session).values()
    assert {one.name for one in listed.recipients if one.deleted is not None} == {"University of X"}
    assert listed.at == NOW + ASK_EVERY


def test_a_coordinator_that_knows_no_recipients_is_told_of_once_and_stops_nothing(
    federation: Federation,
    announcer_of: Callable[..., Announcer],
    site_database: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(federation.versions.__class__, "recipients_for", fails)
    with transaction(site_database) as session:
        session.add(HoldingRow(digest=OLD, name="v1", received=NOW))
    times = [NOW]
    announcer = announcer_of()
    announcer.recipients = RecipientLists(site_database, lambda: times[-1])

    for number in range(3):
        announcer.step(100.0 * number)
        times.append(times[-1] + ASK_EVERY)

    told = [record.message for record in caplog.records if "who received which model version" in record.message]
    assert told == ["the coordinator does not tell who received which model version: it answered INTERNAL"]
    assert federation.row().seen == NOW
    with reading(site_database) as session:
        assert heard_of(session) == {}


def test_nothing_is_sent_between_two_heartbeats_while_nothing_changes(
    federation: Federation, announcer_of: Callable[..., Announcer]
) -> None:
    announcer = announcer_of()
    announcer.step(0.0)

    with transaction(federation.engine) as session:
        row = session.get_one(SiteRow, "north")
        row.seen = None
        row.pending = 7

    announcer.step(59.9)
    assert (federation.row().seen, federation.row().pending) == (None, 7)
    announcer.step(60.0)
    assert (federation.row().seen, federation.row().pending) == (NOW, 0)


def test_what_the_coordinator_lost_it_hears_again_with_the_next_heartbeat(
    federation: Federation, announcer_of: Callable[..., Announcer]
) -> None:
    revoke(federation, "p-1")
    announcer = announcer_of()
    announcer.step(0.0)
    with transaction(federation.engine) as session:
        session.get_one(SiteRow, "north").pending = 0
    announcer.step(60.0)
    assert federation.row().pending == 1


def test_an_unreachable_coordinator_is_tried_again_ever_more_rarely_and_then_hears_all(
    federation: Federation, announcer_of: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
) -> None:
    federation.stop()
    tries: list[float] = []
    now = 0.0

    @contextmanager
    def counted() -> Iterator[CoordinationStub]:
        tries.append(now)
        with connect(federation.site) as stub:
            yield stub

    announcer = announcer_of(via=counted)
    revoke(federation, "p-1")
    for _ in range(30):
        announcer.step(now)
        now += 1.0

    gaps = [after - before for before, after in pairwise(tries)]
    assert 4 <= len(tries) <= 6
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 4 * gaps[0]
    federation.start()
    announcer.step(now + 60.0)
    assert federation.row().pending == 1
    assert "UNAVAILABLE" in caplog.text
    assert "p-1" not in caplog.text


def test_versions_are_deleted_when_asked_and_acknowledged_only_when_gone(
    federation: Federation, announcer_of: Callable[..., Announcer]
) -> None:
    federation.quarantine("v1", OLD)
    federation.quarantine("v2", NEW)
    disk = Disk({OLD, NEW}, stuck={NEW})
    announcer = announcer_of(disk)
    announcer.step(0.0)
    assert (disk.there, disk.told) == ({NEW}, {OLD})
    assert (federation.purged("v1"), federation.purged("v2")) == (True, False)
    disk.stuck.clear()
    announcer.step(60.0)
    assert (disk.there, disk.told) == (set(), {OLD, NEW})
    assert federation.purged("v2")


def test_a_revoked_site_says_so_in_its_log_and_takes_up_a_new_certificate_without_a_restart(
    federation: Federation, announcer_of: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
) -> None:
    announcer = announcer_of()
    announcer.step(0.0)

    with transaction(federation.engine) as session:
        row = session.get_one(SiteRow, "north")
        row.certificate = federation.certificate.decode()
        row.seen = None

    announcer.step(60.0)
    assert "does not accept this site's certificate" in caplog.text
    federation.certify()
    announcer.step(62.0)
    assert federation.row().seen == NOW


def test_a_damaged_list_of_revocations_is_reported_once_and_the_site_still_beats(
    federation: Federation, announcer_of: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
) -> None:
    revoke(federation, "p-1")
    announcer = announcer_of()
    announcer.step(0.0)
    federation.site.tombstones.write_text("p-1 p-1\n")
    with transaction(federation.engine) as session:
        session.get_one(SiteRow, "north").seen = None
    announcer.step(1.0)
    announcer.step(60.0)
    assert (federation.row().seen, federation.row().pending) == (NOW, 1)
    assert caplog.text.count("cannot read the revocations") == 1
    assert "p-1" not in caplog.text


def test_a_clock_that_is_off_is_logged_with_how_much(
    federation: Federation, announcer_of: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
) -> None:
    announcer_of(clock=lambda: NOW + timedelta(minutes=10)).step(0.0)
    assert "off by 600 s" in caplog.text


def test_the_file_of_a_quarantined_version_goes_and_the_others_stay(
    federation: Federation, announcer_of: Callable[..., Announcer], site_database: Engine
) -> None:
    import torch

    from common.learning.model.checkpoint import state_digest

    versions = HeldVersions(federation.site.root / "models", site_database, lambda: NOW)
    old, new = ({"weight": torch.full((2,), value)} for value in (1.0, 2.0))
    for name, state in (("v1", old), ("v2", new)):
        versions.keep(state_digest(state), state, name)
    federation.quarantine("v1", state_digest(old))
    announcer_of(versions).step(0.0)
    assert [path.stem for path in (federation.site.root / "models").iterdir()] == [state_digest(new)]
    assert federation.purged("v1")
    with transaction(site_database) as session:
        assert session.get_one(HoldingRow, state_digest(old)).acknowledged == NOW


def test_status_tells_approved_from_revoked_from_unreachable(federation: Federation) -> None:
    assert ask_status(federation.site).standing == messages.StatusReply.STANDING_ACTIVE
    with transaction(federation.engine) as session:
        session.get_one(SiteRow, "north").state = "revoked"
    with pytest.raises(RefusedError, match="does not accept"):
        ask_status(federation.site)
    federation.stop()
    with pytest.raises(UnavailableError):
        ask_status(federation.site)


def test_a_key_that_others_can_read_is_not_used(federation: Federation) -> None:
    federation.site.tls_key.chmod(0o644)
    with pytest.raises(InputError, match="others can read"):
        ask_status(federation.site)


@pytest.fixture
def site_database(federation: Federation) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{federation.site.database}")
    database.migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def process_of(federation: Federation, site_database: Engine) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "client.runtime.coordination", "--dir", str(federation.site.root)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_process_announces_logs_json_lines_without_patients_and_ends_on_sigterm(
    federation: Federation, process_of: Callable[[], subprocess.Popen[str]]
) -> None:
    revoke(federation, "p-1")
    process = process_of()
    deadline = time.monotonic() + 30
    while federation.row().seen is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert federation.row().pending == 1
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=10)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert process.returncode == 0
    assert "announced: 1 waiting" in {line["message"] for line in lines}
    assert "p-1" not in printed


def test_sigterm_ends_the_process_while_a_coordinator_keeps_it_waiting(
    federation: Federation, process_of: Callable[[], subprocess.Popen[str]]
) -> None:
    federation.stop()
    with socket.create_server(("127.0.0.1", federation.port)) as silent:
        silent.settimeout(30)
        process = process_of()
        connection, _ = silent.accept()

        with connection:
            connection.settimeout(30)
            assert connection.recv(1)  # the TLS handshake has begun and gets no answer
            process.send_signal(signal.SIGTERM)
            assert process.wait(CALL_SECONDS / 2) == 0


def test_a_site_that_has_not_joined_gets_told_to_and_the_process_goes_on_trying(
    federation: Federation, announcer_of: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
) -> None:
    certificate = federation.site.certificate.read_bytes()
    federation.site.certificate.unlink()
    announcer = announcer_of()
    announcer.step(0.0)
    assert "fedforget-site join" in caplog.text
    federation.site.certificate.write_bytes(certificate)
    announcer.step(2.0)
    assert federation.row().seen == NOW


def test_nothing_in_the_process_needs_torch() -> None:
    code = "import sys, client.runtime.coordination; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
