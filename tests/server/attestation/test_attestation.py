"""Whole campaigns with enrolled hospitals end in attestations that anybody can check, and in logs that hold."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import dossiers
import grpc
import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import CursorResult, select, text, update
from sqlalchemy.orm import Session
from typer.testing import CliRunner

import client.runtime.doctor
import server.runtime.doctor
from client.account.letter.letter import Sender, compose
from client.account.letter.subject import subject_of
from client.app import app
from client.cli import app as site_app
from client.cohort.recipients import RecipientLists
from client.cohort.site import Site
from client.cohort.site_files import read_site
from client.evidence.attesting import EvidenceService, exchange_checkpoints, sign
from client.evidence.event_log import SiteLog
from client.evidence.replayable import keep, kept
from client.membership.enrolment import join
from client.membership.steward import sign as sign_as_steward
from client.membership.steward import unsigned
from client.revocations.opening import open_ledger
from client.revocations.rows.ledger_tables import AccessRow
from client.revocations.tombstones.overview import read_revocations
from client.runtime.coordination import connect
from client.settings import SiteFolder
from common.errors import EvidenceError
from common.evidence import dsse, examination, statement_parts, statements
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log.log_checkpoint import Checkpoint, sign_checkpoint
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode, rounded
from common.files import write_private
from common.learning.config import CampaignConfig, DecisionConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.platform.event_log.check import problems
from common.platform.event_log.report import export as export_log
from common.platform.event_log.store import SERVER_ORIGIN, only, signed_by
from common.platform.keys.private_keys import load_signing_key
from common.platform.sql import open_database, transaction
from common.protocol.coordination import coordination_pb2 as messages
from server.attestation.attestation import answer, standing
from server.attestation.coordinator_evidence import CoordinatorEvidence
from server.attestation.event_log import examine, server_log
from server.attestation.export import export
from server.attestation.withheld import PATIENCE, asked_since, waits_for
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.running import training
from server.campaign.running.lifecycle import CampaignRunner
from server.campaign.verdict.judging import Verdict
from server.cli import app as server_app
from server.database import LOG, AttestationRow, CampaignRow, EventRow, PhaseRow, SiteRow, StudyCountRow, VersionRow
from server.membership.coordination import Coordination, serve
from server.rounds.exchanges.connecting import connect_registered
from server.settings import GateConfig, PolicyConfig, ServerFolder, Terms
from simulations.run.local_grid import LocalGrid

EXPERIMENT = ExperimentConfig(
    train=TrainConfig(rounds=1, local_epochs=1, batch=4, patience=5),
    unlearn=UnlearnConfig(passes=1),
    campaign=CampaignConfig(retention_rounds=1, aggregation="relay"),
    decision=DecisionConfig(bootstrap=50),
)
LENIENT = DecisionConfig(bootstrap=50, auc_margin=0.5, ks_alpha=0.0, accuracy_margin=1.0, utility_tolerance=1.0)
"""With which a campaign of so few patients is accepted."""


@dataclass
class World:
    """A coordinator that serves, and its hospitals."""

    house: CoordinatorContext
    desk: CoordinatorEvidence
    carrier: CampaignRunner
    folders: dict[str, SiteFolder]
    logs: dict[str, SiteLog]

    def carry(self, kind: str, decision: DecisionConfig = EXPERIMENT.decision) -> int:
        experiment = EXPERIMENT.model_copy(update={"decision": decision})
        terms = Terms(experiment=experiment, policy=PolicyConfig(quorum=0.4, single_writer="accept"), gate=GateConfig())
        active = self.house.registry.active()
        store = self.house.store
        parent = active.name if active else None
        number = store.plan(kind, terms.model_dump(mode="json"), parent=parent, due=None, reason="test")
        assert self.carrier.carry_on(number, store.take_up(number)) == "published"

        return number

    def forget(self, *names: str, decision: DecisionConfig = EXPERIMENT.decision) -> int:
        for name in names:
            site = Site(self.folders[name].root)
            site.revoke(sorted(site.patients(Subset.TRAIN))[:2])

        return self.carry("unlearning", decision)

    def log_of(self, name: str) -> AbstractContextManager[SiteLog]:
        return nullcontext(self.logs[name])

    def talk(self, *names: str) -> None:
        for name in names or sorted(self.folders):
            with connect(self.folders[name]) as stub:
                EvidenceService(partial(self.log_of, name)).exchange(stub)

    def hear_of_recipients(self, name: str) -> None:
        with open_ledger(self.folders[name]) as ledger, connect(self.folders[name]) as stub:
            RecipientLists(ledger.engine, ledger.clock).step(stub)

    def said(self, number: int) -> str:
        with transaction(self.house.engine) as session:
            return standing(session, number).text

    def statement(self, number: int) -> statements.Unlearning:
        with transaction(self.house.engine) as session:
            envelope = standing(session, number).envelope
        assert envelope is not None
        return statements.read_unlearning(envelope.body)[1]


@pytest.fixture
def world(
    federation_of: Callable[..., Any], enrol: Callable[[Path, str], Path], coordinator: ServerFolder, card: ModelCard
) -> Iterator[World]:
    _, sites = federation_of(north=4, south=4)
    with ExitStack() as stack:
        folders = {name: SiteFolder(enrol(site.folder, name)) for name, site in sites.items()}
        house = open_house(coordinator.root)
        stack.callback(house.engine.dispose)
        desk = CoordinatorEvidence(house.engine, server_log(house.store.clock), house.signer().key)
        service = Coordination(house.engine, house.store.clock, house.registry.deliveries, desk=desk)
        serving, port = serve(
            service,
            "localhost:0",
            certificate=coordinator.certificate.read_bytes(),
            key=coordinator.key.read_bytes(),
            ca=coordinator.ca_certificate.read_bytes(),
        )
        stack.callback(lambda: serving.stop(None).wait())
        logs = {}

        for name, folder in folders.items():
            settings = folder.settings_file.read_text()
            folder.settings_file.write_text(settings.replace("localhost:8444", f"localhost:{port}"))
            engine = open_database(f"sqlite:///{folder.database}")
            stack.callback(engine.dispose)
            logs[name] = SiteLog(folder, engine, lambda: datetime.now(UTC))

        nodes = {name: number for number, name in enumerate(folders, start=1)}
        grid = LocalGrid(app, {nodes[name]: {"site-dir": str(folder.root)} for name, folder in folders.items()})
        federation = connect_registered(grid, nodes, house.signer())
        yield World(house, desk, CampaignRunner(federation, house.store, house.registry, card), folders, logs)


def test_a_campaign_ends_in_an_attestation_that_the_forgetting_hospital_signed(world: World) -> None:
    world.carry("training")
    number = world.forget("north")
    world.talk("south")
    assert re.fullmatch("waits for north since [0-9-]{10} to say which revocations are answered", world.said(number))
    world.talk("north")
    assert world.said(number) == "signed by server, north"
    said = world.statement(number)
    parent = world.house.registry.get("v0001")
    assert said.parent == parent.manifest.files["model.safetensors"]
    assert said.method.name == "retrained"
    assert [figures.site for figures in said.figures] == ["north", "south"]
    assert said.retention.rounds == 0
    with transaction(world.house.engine) as session:
        assert examine(session, world.desk.log, world.desk.key.public) == []
        kinds = [item.source.split(":")[0] for item in world.desk.log.vault(session)]

    assert kinds.count("attestation") == 1
    for name, log in world.logs.items():
        with log.session() as session:
            assert problems(log.log, session, log.key().public) == []
            assert log.log.opened(session, f"ended:{number}") is not None, name


def test_openssl_alone_checks_what_a_campaign_leaves(world: World, tmp_path: Path) -> None:
    world.carry("training")
    number = world.forget("north")
    world.talk("north")
    world.talk("north")

    with transaction(world.house.engine) as session:
        server = world.desk.key.public
        log = world.desk.log
        export(session, log, standing(session, number), server, tmp_path / "audit")
        export_log(log, session, server, "server", tmp_path / "server")

    counter_signed_by_the_evaluator(world.house.folder, tmp_path)
    hospital = world.logs["north"]
    steward = SigningKey.generate("ecdsa-p256")
    sign_as_steward(hospital, unsigned(hospital), steward)
    (tmp_path / "audit" / "steward.pub").write_bytes(steward.public.pem)
    with hospital.session() as session:
        export_log(hospital.log, session, hospital.key().public, "site", tmp_path / "site")
    (receipt,) = {entry.receipt for entry in read_revocations(world.folders["north"].root).patients.values()}
    (tmp_path / "audit" / "revocation.json").write_bytes(hospital.statement(receipt))
    deleted = write_leaf_about_the_end_of_access(hospital, number, tmp_path / "closed.json")
    model = world.house.folder.models / "v0002" / "model.safetensors"

    for path in (
        tmp_path / "server" / "server.pub",
        tmp_path / "server" / "leaves.jsonl",
        tmp_path / "site" / "site.pub",
        tmp_path / "site" / "checkpoint-of-server.json",
        model,
    ):
        (tmp_path / "audit" / path.name).write_bytes(path.read_bytes())

    document = Path(__file__).parents[3] / "docs" / "verify-with-openssl.md"
    commands = "".join(re.findall(r"```bash\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL))
    done = subprocess.run(
        ["bash", "-c", commands], cwd=tmp_path / "audit", capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Signature Verified Successfully") == 9
    assert done.stdout.endswith("the leaves lead to both roots that were signed\n")
    with transaction(world.house.engine) as session:
        export(session, log, standing(session, number), server, tmp_path / "later")
    names = ("server", "site", "evaluator", "steward")
    keys = [f"--key={name}={tmp_path / 'audit' / name}.pub" for name in names]
    required = [f"--require={name}" for name in names]
    files = f"--revocation={tmp_path / 'audit' / 'revocation.json'}", f"--leaf={tmp_path / 'closed.json'}"
    said = verified(tmp_path / "later", *keys, *required, *files)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "signed by evaluator, server, site; the signatures cover every byte" in said.stdout
    assert "signed by site, steward, received" in said.stdout
    assert f"campaign {number} may no longer read patients who have revoked; deleted: {deleted}" in said.stdout
    assert verified(tmp_path / "later", *keys, "--require=other").returncode == 6


def write_leaf_about_the_end_of_access(site: SiteLog, campaign: int, file: Path) -> str:
    """Opens it from the command line; returns what the ledger says was deleted then."""
    with site.session() as session:
        leaf = next(item for item in site.log.vault(session) if item.source == f"access-closed:{campaign}")
        row = session.scalars(select(AccessRow).where(AccessRow.campaign == campaign, AccessRow.what == "closed")).one()
        purged = row.purged
        kinds = [decode(Entry, line).kind for line in site.log.leaves(session)]

    assert kinds.count("access-closed") == 1
    assert purged["pixels"] >= 1
    assert purged["studies"] >= 1
    arguments = ["log", "open", str(leaf.position), str(file), "--dir", str(site.folder.root)]
    assert CliRunner().invoke(site_app, arguments).exit_code == 0
    absent = CliRunner().invoke(site_app, ["log", "open", "9999", str(file), "--dir", str(site.folder.root)])
    assert absent.exit_code == 2

    return (
        f"{purged['pixels']} decoded images, {purged['studies']} studies with their reports and tokens, "
        f"{purged['fold_scores']} scores by fold models, {purged['working']} sets of weights"
    )


def counter_signed_by_the_evaluator(folder: ServerFolder, tmp_path: Path) -> None:
    """Signs the exported attestation, hands it back, and leaves the public key beside it."""
    evaluator = SigningKey.generate()
    stranger = SigningKey.generate()
    for name, key in (("evaluator", evaluator), ("stranger", stranger)):
        write_private(tmp_path / f"{name}.pem", key.to_pem(b"secret"))
    write_private(tmp_path / "secret", b"secret\n")
    (folder.root / "evaluator.pub").write_bytes(evaluator.public.pem)
    (tmp_path / "audit" / "evaluator.pub").write_bytes(evaluator.public.pem)
    exported = tmp_path / "audit" / "attestation.json"
    place = ("--dir", str(folder.root))
    data = exported.read_bytes()
    assert attestation("accept", str(exported), *place) == (2, "no evaluator is named")
    folder.settings_file.write_text(f'evaluator_key = "evaluator.pub"\n{folder.settings_file.read_text()}')
    assert attestation("accept", str(exported), *place) == (6, "not signed by key")
    signing = ("--passphrase-file", str(tmp_path / "secret"), "--key")
    assert attestation("sign", str(exported), *signing, str(tmp_path / "stranger.pem"))[0] == 0
    assert attestation("accept", str(exported), *place) == (6, "not signed by key")
    exported.write_bytes(data)
    assert attestation("sign", str(exported), *signing, str(tmp_path / "evaluator.pem")) == (
        0,
        "decision: Accepted after retraining (`accepted`)",
    )
    signed = exported.read_bytes()
    for broken in (changed(signed, signed.index(evaluator.public.keyid.encode()) + 75), changed(signed, 30)):
        exported.write_bytes(broken)
        assert attestation("accept", str(exported), *place)[0] == 6

    exported.write_bytes(signed)
    assert attestation("show", "2", *place) == (0, "has not signed yet")
    for _ in range(2):
        assert attestation("accept", str(exported), *place) == (0, "stands below campaign 2")
    assert attestation("show", "2", *place) == (0, "has signed")


SAID = (
    "no evaluator is named",
    "not signed by key",
    "decision: Accepted after retraining (`accepted`)",
    "has not signed yet",
    "stands below campaign 2",
    "has signed",
)


def attestation(*arguments: str) -> tuple[int, str]:
    """Exit code, and which of the expected words the command said."""
    result = CliRunner().invoke(server_app, ["attestation", *arguments])
    return result.exit_code, next((words for words in SAID if words in result.output), result.output)


def test_a_coordinator_changes_its_key_and_what_waits_is_signed_with_the_new_one(world: World, tmp_path: Path) -> None:
    world.carry("training")
    number = world.forget("north")
    folder = world.house.folder
    north = world.logs["north"]
    server = world.desk.key.public
    with north.session() as session:
        ended = north.ended(session, number)
    assert ended is not None
    world.talk("south")
    with transaction(world.house.engine) as session:
        answer(session, "north", number, [str(digest) for digest in cast("list[str]", ended["revocations"])])
    world.desk.keep_up()
    assert world.said(number).startswith("signed by server; not signed by north since ")
    rotation = ["rotate", "--out", str(tmp_path / "bundles"), "--dir", str(folder.root)]
    assert CliRunner().invoke(server_app, rotation).exit_code == 0
    # As after a restart.
    object.__setattr__(world.desk, "key", load_signing_key(folder.signing_key, folder.passphrase))
    newer = world.desk.key.public
    assert newer != server
    world.talk("north")
    assert "not signed by north since" in world.said(number)
    with north.session() as session:
        seen = north.log.peer(session, SERVER_ORIGIN)
    assert seen is None or seen.trouble == ""
    for name, place in world.folders.items():
        settings = place.settings_file.read_text()
        join(place, (tmp_path / "bundles" / f"{name}-join.json").read_bytes(), datetime.now(UTC))
        place.settings_file.write_text(settings)  # with the port of this test

    world.talk()
    world.talk()
    assert world.said(number) == "signed by server, north"

    with transaction(world.house.engine) as session:
        assert examine(session, world.desk.log, newer) == []
        export(session, world.desk.log, standing(session, number), newer, tmp_path / "audit")
        export_log(world.desk.log, session, newer, "server", tmp_path / "server")

    (tmp_path / "site.pub").write_bytes(north.key().public.pem)
    site = f"--key=site={tmp_path / 'site.pub'}"
    said = verified(tmp_path / "audit", site, f"--history={tmp_path / 'server' / 'keys.json'}")
    assert said.returncode == 0, said.stdout
    assert "signed by server, server, site; the signatures cover every byte" in said.stdout
    assert "HOLDS          log checkpoint: signed by server, site" in said.stdout
    assert verified(tmp_path / "audit", site, f"--key=server={tmp_path / 'server' / 'server.pub'}").returncode == 6


def test_the_files_for_an_auditor_verify_offline_and_no_changed_byte_passes(world: World, tmp_path: Path) -> None:
    world.carry("training")
    number = world.forget("north", "south", decision=LENIENT)
    world.talk()
    world.talk()
    unlearned = world.statement(number)
    assert unlearned.method.name == "forget_mi_calibrated", unlearned.decision.reasons
    assert unlearned.retention == statement_parts.Retention(1, ("north", "south"))
    assert len(unlearned.revocations) == 2
    assert world.said(number) == "signed by server, north, south"
    check_the_record_of_a_hospital(world, number, unlearned, tmp_path)

    with transaction(world.house.engine) as session:
        found = standing(session, number)
        written = export(session, world.desk.log, found, world.desk.key.public, tmp_path / "audit")
        export(session, world.desk.log, found, world.desk.key.public, tmp_path / "whole", whole=True)

    assert written == ["attestation.json", "bundle.json"]
    (tmp_path / "server.pub").write_bytes(world.desk.key.public.pem)

    for name, log in world.logs.items():
        (tmp_path / f"{name}.pub").write_bytes(log.key().public.pem)
        with log.session() as session:
            peer = log.log.peer(session, SERVER_ORIGIN)
        assert peer is not None
        (tmp_path / f"{name}.json").write_bytes(dsse.encode_envelope(peer.envelope))

    model = world.house.folder.models / "v0002" / "model.safetensors"
    keys = [f"--key=server={tmp_path / 'server.pub'}"]
    keys += [f"--key=site={tmp_path / f'{name}.pub'}" for name in world.logs]
    receipts = {entry.receipt for entry in read_revocations(world.folders["south"].root).patients.values()}
    (tmp_path / "revocation.json").write_bytes(world.logs["south"].statement(*receipts))
    said = verified(tmp_path / "audit", *keys, f"--model={model}", f"--revocation={tmp_path / 'revocation.json'}")
    assert said.returncode == 0, said.stdout
    assert "signed by server, site, site" in said.stdout
    assert "bit for bit" in said.stdout
    assert "and answered by this attestation" in said.stdout
    # North's checkpoint is older than the bundle's: only the log as a whole can be compared with it.
    said = verified(tmp_path / "whole", *keys, f"--checkpoint={tmp_path / 'north.json'}")
    assert said.returncode == 0, said.stdout
    assert "the log shown agrees" in said.stdout

    pinned = PinnedKeys.of(
        [("server", world.desk.key.public), *(("site", log.key().public) for log in world.logs.values())]
    )
    attestation, bundle = ((tmp_path / "audit" / name).read_bytes() for name in written)
    assert examination.examine(attestation, pinned, bundle=bundle).holds
    for at in range(0, len(attestation), 37):
        assert not examination.examine(changed(attestation, at), pinned, bundle=bundle).holds, at
    for at in range(0, len(bundle), 13):
        assert not examination.examine(attestation, pinned, bundle=changed(bundle, at)).holds, at
    (tmp_path / "audit" / "attestation.json").write_bytes(changed(attestation, len(attestation) // 2))
    refused = verified(tmp_path / "audit", *keys)
    assert refused.returncode == 6
    assert "NOT TO BE RELIED ON" in refused.stdout


def check_the_record_of_a_hospital(world: World, number: int, said: statements.Unlearning, tmp_path: Path) -> None:
    """What it hands to those who supervise has the rounds, the versions and the figures that the attestation has."""
    folder = world.folders["north"]
    names = [*Site(folder.root).patients(Subset.TRAIN), *read_revocations(folder.root).patients]

    for kind in ("json", "csv"):
        arguments = ["revocations", "export", str(tmp_path / f"record.{kind}"), "--dir", str(folder.root)]
        assert CliRunner().invoke(site_app, arguments).exit_code == 0
        assert not any(name in (tmp_path / f"record.{kind}").read_text() for name in names)

    first, second = json.loads((tmp_path / "record.json").read_text())
    with transaction(world.house.engine) as session:
        envelope = standing(session, number).envelope
    assert envelope is not None
    for row in (first, second):
        assert (row["state"], row["campaign"]) == ("unlearned", number)
        assert {(found["campaign"], found["use"]) for found in row["rounds"]} == {(1, "train"), (number, "unlearn")}
        (version,) = row["versions"]
        assert version["version"] == "v0001"
        assert version["weights"] == world.house.registry.get("v0001").manifest.weights
        assert version["deleted"] > version["received"] > row["rounds"][0]["at"]
        audit = row["audit"]
        assert audit["attestation"] == hashlib.sha256(envelope.body).hexdigest()
        assert (audit["campaign"], audit["decision"]["outcome"]) == (str(number), "accepted")
        assert audit["metrics"] == [asdict(metric) for metric in said.metrics]
        assert audit["limits"] == [*said.limits]
        assert len({metric["name"] for metric in audit["metrics"]}) > 2
        assert row["told"] == {"how": "not-linked", "hospitals": 0, "names": None, "at": None}
        assert (row["recipients"], row["missing"].keys()) == (None, {"recipients"})

    (table, _) = csv.DictReader((tmp_path / "record.csv").read_text().splitlines())
    assert (table["outcome"], table["versions"]) == ("accepted", "v0001")
    assert table["rounds"] == str(len(first["rounds"]))
    assert f"{said.metrics[1].name}: {rounded(said.metrics[1].value)} (" in table["metrics"]
    assert table["acceptance"].startswith("rests on: this campaign's own audit; the rule accepts a model if an attack")


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def verified(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("fedforget-site")), "verify", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_attestation_that_cannot_be_written_is_said_once_and_holds_nothing_up(world: World) -> None:
    world.carry("training")
    number = world.forget("north")
    with transaction(world.house.engine) as session:
        settings = session.get_one(CampaignRow, number).settings
        session.get_one(CampaignRow, number).settings = {"experiment": "of long ago"}

    world.talk()
    world.talk()
    assert world.said(number) == "cannot be written: see the events of the campaign"
    assert [e.detail for e in world.house.store.events(number) if e.kind == "not-attested"] == [
        "settings of another version"
    ]
    with transaction(world.house.engine) as session:
        session.get_one(CampaignRow, number).settings = settings
    world.talk()
    assert world.said(number) == "signed by server, north"


def test_a_hospital_that_withholds_its_answer_holds_up_nobodys_attestation_and_that_is_said(world: World) -> None:
    world.carry("training")
    number = world.forget("north", "south", decision=LENIENT)
    world.talk("north")
    assert world.said(number).startswith("waits for south since ")
    with transaction(world.house.engine) as session:
        phase = session.scalars(select(PhaseRow).where(PhaseRow.step == "unlearn:north")).one()
        phase.body = {**phase.body, "reply": {**phase.body["reply"], "cohort": ""}}

    # A suspended hospital has a day, an active one what the policy says.
    with transaction(world.house.engine) as session:
        session.get_one(SiteRow, "south").state = "suspended"
        row = session.get_one(AttestationRow, number)
        since = asked_since(session, row)
        assert since is not None
        assert waits_for(session, row, since + timedelta(hours=23), PATIENCE) == ("south",)
        assert waits_for(session, row, since + timedelta(hours=25), PATIENCE) == ()
        session.get_one(SiteRow, "south").state = "active"
        assert waits_for(session, row, since + timedelta(days=13), PATIENCE) == ("south",)

    replace(world.desk, patience=timedelta(0)).keep_up()
    said = world.statement(number)
    # One receipt of north; south never said which of its own are answered.
    assert len(said.revocations) == 1
    assert any(
        re.fullmatch(r"south has not said since [0-9-]{10} which .*: none of its patients is attested\.", limit)
        for limit in said.limits
    )
    assert "north did not commit to the patients it forgot: its unlearning step cannot be replayed." in said.limits
    assert not any(limit.startswith("south did not commit") for limit in said.limits)
    assert "written without an answer of south: none of its patients is attested" in world.said(number)
    replace(world.desk, patience=timedelta(0)).keep_up()

    # Too late: what is signed does not change.
    world.talk("south")
    assert world.statement(number) == said
    with transaction(world.house.engine) as session:
        events = session.scalars(select(EventRow).where(EventRow.kind.in_(("not-answered", "not-signed")))).all()
        assert [(event.kind, event.site) for event in events] == [("not-answered", "south"), ("not-signed", "north")]
        assert examine(session, world.desk.log, world.desk.key.public) == []


def test_a_hospital_signs_nothing_that_differs_from_what_it_did(world: World) -> None:
    world.carry("training")
    number = world.forget("north")
    world.talk()
    with transaction(world.house.engine) as session:
        envelope = standing(session, number).envelope
    assert envelope is not None
    files, said = statements.read_unlearning(envelope.body)
    other = "0" * 64
    mine = tuple(f if f.site != "north" else replace(f, sha256=other) for f in said.figures)
    weights = tuple(f if f.name != "weights" else replace(f, sha256=other) for f in files)

    for says, statement in {
        "did not report": statements.unlearning_statement(files, replace(said, figures=mine)),
        "leaves out revocations": statements.unlearning_statement(files, replace(said, revocations=(other,))),
        "differ from those adopted": statements.unlearning_statement(weights, said),
        "did not end here": statements.unlearning_statement(files, replace(said, campaign="9")),
        "disagrees about how": statements.unlearning_statement(
            files, replace(said, method=replace(said.method, name="forget_mi_calibrated"))
        ),
    }.items():
        forged = dsse.sign(statements.PAYLOAD_TYPE, statement, world.desk.key)
        with pytest.raises(EvidenceError, match=says):
            sign(world.logs["north"], dsse.encode_envelope(forged))

    stranger = dsse.sign(statements.PAYLOAD_TYPE, envelope.body, SigningKey.generate())
    with pytest.raises(EvidenceError, match="not among the pinned keys"):
        sign(world.logs["north"], dsse.encode_envelope(stranger))
    genuine = dsse.sign(statements.PAYLOAD_TYPE, envelope.body, world.desk.key)
    assert len(dsse.decode_envelope(sign(world.logs["north"], dsse.encode_envelope(genuine))).signatures) == 2


def test_a_rewritten_row_of_the_log_is_found(world: World) -> None:
    world.talk("north")
    log = world.desk.log
    key = world.desk.key.public

    for statement, says in {
        "update log_leaves set leaf = replace(leaf, 'enrolled', 'revoked') where position = 1": "the log was changed",
        "delete from log_leaves where position = 2": "the log was cut short",
        "update log_checkpoints set envelope = replace(envelope, 'sig', 'gis')": "not one that the owner",
        "delete from log_checkpoints": "stand after the last checkpoint signed",
        "update log_head set size = 1": "growing edge",
        "update log_vault set document = replace(document, 'north', 'south')": "do not open the commitment",
        "update events set detail = 'nothing' where id = 1": "event 1 was changed",
        "delete from events where id = 1": "event 1 was deleted",
    }.items():
        with Session(world.house.engine) as session:
            session.execute(text(statement))
            try:
                found = examine(session, log, key)
            except EvidenceError as err:
                found = [str(err)]

            session.rollback()

        assert any(says in problem for problem in found), (statement, found)

    with transaction(world.house.engine) as session:
        assert examine(session, log, key) == []


def test_a_hospital_that_forks_or_cuts_its_log_gets_no_signature_and_that_stands_in_the_log(world: World) -> None:
    north = world.logs["north"]
    key = world.logs["north"].key()
    Site(world.folders["north"].root).revoke(sorted(Site(world.folders["north"].root).patients(Subset.TRAIN))[:1])
    world.talk("north")
    with north.session() as session:
        size = len(north.log.leaves(session))
    with connect(world.folders["north"]) as stub:
        for forged in (Checkpoint("site:north", size, "1" * 64), Checkpoint("site:north", 1, "1" * 64)):
            request = messages.ExchangeCheckpointRequest(
                checkpoint=dsse.encode_envelope(sign_checkpoint(forged, key)), since=size
            )
            with pytest.raises(grpc.RpcError) as caught:
                stub.ExchangeCheckpoint(request, timeout=10)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    with transaction(world.house.engine) as session:
        kinds = [item.source for item in world.desk.log.vault(session)]
        refused = [e for e in session.scalars(select(EventRow)) if e.kind == "log-refused"]
        peer = world.desk.log.peer(session, "site:north")
        assert examine(session, world.desk.log, world.desk.key.public) == []

    assert [("forked" in e.detail, "cut short" in e.detail) for e in refused] == [(True, False), (False, True)]
    assert all(f"event:{e.id}" in kinds for e in refused)
    assert peer is not None
    assert "cut short" in peer.trouble
    rows = {check.name: check for check in server.runtime.doctor.examine(world.house.folder, datetime.now(UTC))}
    assert (rows["log"].result, rows["log of site:north"].result) == ("ok", "fail")


def test_a_coordinator_whose_log_went_back_gets_no_signature_and_the_hospital_says_so(world: World) -> None:
    north = world.logs["north"]
    world.talk("north")

    with transaction(world.house.engine) as session:
        for table in ("log_leaves", "log_vault", "log_checkpoints", "log_peers"):
            session.execute(text(f"delete from {table}"))  # noqa: S608 - names of our own tables
        session.execute(text("update log_head set size = 0, peaks = ''"))
        session.execute(text("delete from events where id > 1"))

    with connect(world.folders["north"]) as stub, pytest.raises(EvidenceError, match="cut short"):
        exchange_checkpoints(north, stub)
    with north.session() as session:
        peer = north.log.peer(session, SERVER_ORIGIN)
        leaves = [decode(Entry, leaf).kind for leaf in north.log.leaves(session)]
        assert problems(north.log, session, north.key().public) == []

    assert peer is not None
    assert "cut short" in peer.trouble
    assert leaves.count("log-refused") == 1
    rows = {check.name: check for check in client.runtime.doctor.examine(world.folders["north"], datetime.now(UTC))}
    assert (rows["log"].result, rows["log of server"].result) == ("ok", "fail")


def test_a_signature_that_was_lost_on_the_way_is_given_again(world: World) -> None:
    north = world.logs["north"]
    key = world.logs["north"].key().public
    world.talk("north")

    with transaction(world.house.engine) as session:
        newest = world.desk.log.newest(session)
        assert newest is not None
        assert signed_by(newest, key)
        text_of = dsse.encode_envelope(only(newest, world.desk.key.public)).decode()
        forgotten = update(LOG.checkpoints).values(envelope=text_of).where(LOG.checkpoints.c.size == 3)
        changed_rows = session.execute(forgotten)
        assert isinstance(changed_rows, CursorResult)
        assert changed_rows.rowcount == 1

    with connect(world.folders["north"]) as stub:
        exchange_checkpoints(north, stub)
    with transaction(world.house.engine) as session:
        newest = world.desk.log.newest(session)
        assert newest is not None
        assert signed_by(newest, key)


def test_leaves_of_a_hospital_name_no_patient(world: World) -> None:
    site = Site(world.folders["north"].root)
    patient = min(site.patients(Subset.TRAIN))
    site.revoke([patient])
    world.talk("north")
    north = world.logs["north"]

    with north.session() as session:
        kinds = [decode(Entry, leaf).kind for leaf in north.log.leaves(session)]
        stored = [leaf.decode() for leaf in north.log.leaves(session)]
        stored += [item.document.decode() for item in north.log.vault(session)]
        receipt = next(item.source for item in north.log.vault(session) if item.source.startswith("revocation:"))
        north.log.erase(session, receipt)
        assert problems(north.log, session, north.key().public) == []

    assert kinds == ["key", "revocation", "tombstone"]
    assert patient not in " ".join(stored)


def test_an_inspector_replays_an_attested_unlearning_on_site_bit_for_bit(world: World, tmp_path: Path) -> None:
    world.carry("training")
    parent = world.house.registry.active()
    assert parent is not None
    weights = tmp_path / "parent.safetensors"
    manifest = tmp_path / "records.csv"
    save_file(dict(world.house.registry.load(parent.name)), weights)

    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient_id", "study_id", "image", "report", "label"])
        classes = read_site(world.folders["north"].root).card.classes
        for study in Site(world.folders["north"].root).cohort.studies:
            rows.writerow([study.patient, study.study, study.image, study.report, classes[study.label]])

    number = world.forget("north", decision=LENIENT)
    world.talk()
    world.talk()
    (said,) = world.statement(number).replays
    assert (said.site, said.parent, said.received) == ("north", parent.weights, parent.weights)
    assert float(said.norm) > 0
    attested = tmp_path / "attestation.json"
    with transaction(world.house.engine) as session:
        envelope = standing(session, number).envelope
    assert envelope is not None
    attested.write_bytes(dsse.encode_envelope(envelope))

    def replay(*more: object) -> tuple[int, str]:
        arguments = ["replay", attested, "--weights", weights, "--dir", world.folders["north"].root, *more]
        done = CliRunner().invoke(site_app, [*map(str, arguments)])
        return done.exit_code, " ".join(done.output.split())

    code, output = replay()
    assert code == 2, output
    assert "studies of the forget set are not here as they were" in output
    code, output = replay("--source", manifest)
    assert code == 0, output
    assert "same weights yes" in output
    assert [leaf.purged for leaf in accesses(world, number)][-1] == {"replay": 2}
    save_file({n: t + 1e-4 if t.is_floating_point() else t for n, t in load_file(weights).items()}, weights)
    assert replay("--source", manifest)[0] == 6
    record = kept(world.folders["north"], number)
    assert record is not None
    keep(world.folders["north"], record.model_copy(update={"salt": "00" * 32}))
    code, output = replay("--source", manifest)
    assert code == 2
    assert "salt of this cohort has been deleted" in output


def accesses(world: World, number: int) -> list[AccessRow]:
    engine = open_database(world.folders["north"].database_url)
    with transaction(engine) as session:
        rows = list(session.scalars(select(AccessRow).where(AccessRow.campaign == number).order_by(AccessRow.id)))
    engine.dispose()
    return rows


def test_a_hospital_signs_no_attestation_that_binds_another_unlearning(world: World) -> None:
    world.carry("training")
    number = world.forget("north", decision=LENIENT)
    record = kept(world.folders["north"], number)
    assert record is not None
    keep(world.folders["north"], record.model_copy(update={"unlearned": "0" * 64}))
    world.talk()
    world.talk()
    assert "not signed by north since" in world.said(number)


def test_the_log_has_the_permission_to_read_patients_before_what_was_read(world: World) -> None:
    world.carry("training")
    number = world.forget("north", decision=LENIENT)
    log = world.logs["north"]

    with log.session() as session:
        positions = {item.source: item.position for item in log.log.vault(session) if item.position is not None}
        audits = [at for source, at in positions.items() if source.startswith(f"audited:{number}:")]
        assert audits
        assert positions[f"access-opened:{number}"] < min(audits)
        assert max(audits) < positions[f"ended:{number}"]


def test_figures_of_patients_without_an_access_on_record_are_not_reported(world: World) -> None:
    with pytest.raises(EvidenceError, match="without an access"):
        world.logs["north"].audited(7, "0" * 64, read_patients=True)


def test_an_attestation_names_the_person_s_decision_against_a_veto(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.carry("training")
    site = Site(world.folders["north"].root)
    site.revoke(sorted(site.patients(Subset.TRAIN))[:2])
    worse = Verdict(outcome="rejected", reasons=("certainly worse",), vetoes=("south: test AUC dropped",))
    monkeypatch.setattr(training, "judge_training", lambda *_: worse)
    store = world.house.store
    terms = Terms(experiment=EXPERIMENT, policy=PolicyConfig(quorum=0.4, single_writer="accept"), gate=GateConfig())
    number = store.plan("unlearning", terms.model_dump(mode="json"), parent="v0001", due=None, reason="test")
    assert world.carrier.carry_on(number, store.take_up(number)) == "rejected"
    store.overrule(number, "the test set of south is broken", 1)
    assert world.carrier.carry_on(number, store.take_up(number)) == "published"
    world.talk()
    said = world.statement(number)
    assert said.overruled is not None
    assert said.overruled.reason == "the test set of south is broken"
    assert said.overruled.findings == ("veto: south: test AUC dropped", "rejected: certainly worse")
    assert said.decision.outcome == "rejected"
    assert world.said(number) == "signed by server, north"


def test_the_dossiers_of_both_sides_need_no_key_hold_by_their_verifier_and_have_every_file_of_the_page(
    world: World, tmp_path: Path
) -> None:
    world.carry("training")
    number = world.forget("north")
    world.talk("north")
    world.talk("north")
    world.talk("south")
    north = world.folders["north"]
    north.signing_key.rename(tmp_path / "away")
    world.house.folder.signing_key.rename(tmp_path / "away-too")
    with open_ledger(north) as ledger:
        (receipt,) = {standing.receipt for standing in ledger.standing()}
        patients = ledger.known_patients()

    with transaction(world.house.engine) as session:
        published = session.get_one(VersionRow, "v0002").created
        for sequence, (studies, state, at) in enumerate(
            [
                (7, "approved", published - timedelta(days=1)),
                (90, "replaced", published - timedelta(hours=1)),
                (5, "registered", published + timedelta(days=1)),
            ]
        ):
            row = {"site": "north", "sequence": sequence, "train_studies": studies, "state": state, "received": at}
            session.add(StudyCountRow(**row, decided=at, reason="", envelope=""))

    with transaction(world.house.engine) as session:
        session.get_one(VersionRow, "v0001").state = "superseded"
    with world.house.registry.exports.recorded("v0001", "University of X"):
        pass
    world.hear_of_recipients("north")

    def made(program: Any, subject: str, root: Path, file: str) -> Path:
        out = tmp_path / file
        result = CliRunner().invoke(program, ["dossier", subject, "--out", str(out), "--dir", str(root), "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
        again = CliRunner().invoke(program, ["dossier", subject, "--out", str(out), "--dir", str(root)])
        assert (again.exit_code, "exists already" in again.output) == (2, True)
        return out

    of_site = made(site_app, receipt, north.root, "site.zip")
    of_version = made(server_app, "v0002", world.house.folder.root, "server.zip")
    assert made(server_app, "v0002", world.house.folder.root, "again.zip").read_bytes() == of_version.read_bytes()
    site_names = dossiers.unpacked(of_site, tmp_path / "site")
    server_names = dossiers.unpacked(of_version, tmp_path / "server")
    assert dossiers.absent(dossiers.named("Files of the hospital's dossier"), site_names) == set()
    of_coordinator = dossiers.named("Files of the coordinator's dossier")
    assert len(of_coordinator) > 15
    assert dossiers.absent(of_coordinator - {"evaluator.pub"}, server_names) == set()
    assert dossiers.absent(dossiers.everywhere(), site_names | server_names) == set()
    for side in ("site", "server"):
        duties = json.loads((tmp_path / side / "duties.json").read_text())
        assert [duty["absent"] for duty in duties] == [{}] * len(duties)
        contents = [path.read_bytes() for path in (tmp_path / side).iterdir()]
        assert not any(patient.encode() in content for patient in patients for content in contents)

    assert f"campaign {number} may no longer read" in dossiers.verified(tmp_path / "site")
    said = dossiers.verified(tmp_path / "server")
    assert "signed by server, site-north" in said
    assert receipt.encode() not in b"".join(path.read_bytes() for path in (tmp_path / "server").iterdir())
    rows = json.loads((tmp_path / "server" / "recipients.json").read_text())
    assert {(row["version"], row["site"]) for row in rows} >= {("v0001", "north"), ("v0002", "north")}
    counts = json.loads((tmp_path / "server" / "training.json").read_text())["sites"]
    assert counts == [{"site": "north", "train_studies": 7}, {"site": "south", "train_studies": None}]
    assert {(row["version"], row["name"]) for row in rows if row["kind"] == "export"} == {("v0001", "University of X")}
    heard = json.loads((tmp_path / "site" / "recipients.json").read_text())
    assert heard["not_known_here"] is None
    (listed,) = heard["as_the_coordinator_says"]
    assert listed["version"] == "v0001"
    assert {(one["kind"], one["name"]) for one in listed["recipients"]} >= {
        ("hospital", "north"), ("hospital", "south"), ("export", "University of X"),
    }  # fmt: skip
    with open_ledger(north) as ledger:
        letter = compose(subject_of(ledger, None, receipt), Sender(), "en", ledger.clock(), form="text")
    assert "handed out: 3. Deletion confirmed: 2." in " ".join(letter.split())
    attacks = json.loads((tmp_path / "server" / "attacks.json").read_text())
    assert attacks["not_run"]
    record = json.loads((tmp_path / "site" / "record.json").read_text())
    assert {row["receipt"] for row in record} == {receipt}

    made(server_app, "v0001", world.house.folder.root, "first.zip")
    first_names = dossiers.unpacked(tmp_path / "first.zip", tmp_path / "first")
    assert "attestation.json" not in first_names
    assert "Not included: attestation.json: no campaign made anybody forgotten" in (
        (tmp_path / "first" / "README.txt").read_text()
    )
    unknown = CliRunner().invoke(server_app, ["dossier", "v0009", "--dir", str(world.house.folder.root)])
    assert (unknown.exit_code, unknown.output.count("\n")) == (2, 1)

    attestation_file = tmp_path / "server" / "attestation.json"
    attestation_file.write_bytes(changed(attestation_file.read_bytes(), 40))
    with pytest.raises(AssertionError):
        dossiers.verified(tmp_path / "server")
