"""Signed exchanges with three enrolled hospitals, and grids that lose, repeat, delay and change what they carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from sqlalchemy import select

import server.rounds.exchanges.signer
from client.app import app
from client.cohort.site import Site
from client.database import ParticipationRow, opened
from client.settings import CONFIG_FILE, SiteFolder
from common.errors import UnavailableError, WireError
from common.evidence.keys import SigningKey
from common.files import write_private
from common.learning.config import TrainConfig
from common.learning.model.checkpoint import ModelCard, state_digest
from common.platform.keys.private_keys import read_passphrase
from common.protocol.instructions import Content, Context, content_of, read_instruction
from common.protocol.messages import (
    ADOPT,
    STATUS,
    TRAIN,
    AdoptReply,
    AdoptRequest,
    StatusRequest,
    TrainReply,
    TrainRequest,
)
from common.protocol.wire import pack, unpack, weights_of
from server.campaign.context import open_house
from server.rounds.exchanges.connecting import connect, connect_registered
from server.rounds.exchanges.signer import Scope, Signer
from server.rounds.federation import Federation
from server.settings import ServerFolder
from simulations.run.local_grid import LocalGrid

NAMES = ("east", "north", "south")
TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)


class Clock:
    """Seconds that pass only while somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


class CampaignRunner(LocalGrid):
    """A grid whose deliveries pass through `deliver`: what arrives, given the node and its reply."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.deliver: Callable[[int, Message], list[Message]] = lambda _, reply: [reply]
        self.refuse: set[int] = set()
        self.pushed: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Flower answers None for what it cannot take."""
        ids: list[Any] = []
        for message in messages:
            self.pushed.append(message)
            ids += [None] if message.metadata.dst_node_id in self.refuse else super().push_messages([message])

        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = []
        for reply in super().pull_messages(message_ids):
            delivered = self.deliver(reply.metadata.src_node_id, reply)
            if not delivered:
                self._replies[reply.metadata.reply_to_message_id] = reply
            found += delivered

        return found


@dataclass
class Hospitals:
    """Three enrolled hospitals, their coordinator, and what it was told of bad replies."""

    grid: CampaignRunner
    folders: dict[str, Path]
    nodes: dict[str, int]
    signer: Signer
    federation: Federation
    clock: Clock
    bad: list[tuple[str, str, str]] = field(default_factory=list)

    def ask(self, kind: str = STATUS, deadline: float | None = None) -> dict[str, RecordDict]:
        request = pack(StatusRequest())
        return dict(self.federation.exchange(kind, dict.fromkeys(NAMES, request), deadline))


@pytest.fixture
def hospitals(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]],
    enrol: Callable[[Path, str], Path],
    coordinator: ServerFolder,
) -> Hospitals:
    _, sites = federation_of(east=2, north=3, south=4)
    folders = {name: enrol(site.folder, name) for name, site in sites.items()}
    nodes = {name: number for number, name in enumerate(folders, start=1)}
    house = open_house(coordinator.root)
    signer = house.signer()
    house.engine.dispose()
    grid = CampaignRunner(app, {nodes[name]: {"site-dir": str(folders[name])} for name in NAMES})
    clock = Clock()
    federation = connect_registered(grid, nodes, signer, wait=clock.wait)
    found = Hospitals(grid, folders, nodes, signer, federation, clock)
    federation.clock = clock
    federation.on_bad_reply = lambda *what: found.bad.append(what)

    return found


def test_status_and_training_run_signed(hospitals: Hospitals, card: ModelCard) -> None:
    federation = hospitals.federation
    federation.scope = Scope(7, "train:0", 0)
    assert {name: s.retain_studies for name, s in federation.status().items()} == {"east": 2, "north": 3, "south": 4}
    state = card.build().state_dict()
    replies = dict(federation.exchange(TRAIN, dict.fromkeys(NAMES, pack(TRAINING, state))))
    assert {name: unpack(r, TrainReply).site for name, r in replies.items()} == {name: name for name in NAMES}
    assert all(any(not torch.equal(weights_of(r)[n], state[n]) for n in state) for r in replies.values())
    assert hospitals.bad == []


def test_a_site_records_the_campaign_and_step_that_were_signed(hospitals: Hospitals, card: ModelCard) -> None:
    hospitals.federation.scope = Scope(7, "train:2", 2)
    list(hospitals.federation.exchange(TRAIN, {"north": pack(TRAINING, card.build().state_dict())}))
    with opened(SiteFolder(hospitals.folders["north"]).database) as engine, engine.connect() as connection:
        rows = connection.execute(select(ParticipationRow.campaign, ParticipationRow.step)).all()
    assert (7, "train:2") in rows
    assert {campaign for campaign, _ in rows} == {7}


def test_a_published_version_is_adopted_by_signed_request(hospitals: Hospitals, card: ModelCard) -> None:
    hospitals.federation.scope = Scope(7, ADOPT)
    state = card.build().state_dict()
    request = AdoptRequest(version="v0001", digest=state_digest(state), campaign=7, how="trained")
    replies = dict(hospitals.federation.exchange(ADOPT, dict.fromkeys(NAMES, pack(request, state))))
    assert {name: unpack(r, AdoptReply).site for name, r in replies.items()} == {name: name for name in NAMES}


def test_each_request_says_which_campaign_step_and_round_it_is_of(hospitals: Hospitals) -> None:
    hospitals.federation.scope = Scope(7, "retain:2", 2)
    hospitals.ask()
    for name, message in zip(NAMES, hospitals.grid.pushed[-3:], strict=True):
        context = read_instruction(message.content, hospitals.signer.key.public).context
        assert context == Context(hospitals.signer.federation, 7, "retain:2", 2, STATUS, name)


def test_weights_for_all_sites_are_read_once(
    hospitals: Hospitals, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[RecordDict] = []

    def counted(records: RecordDict) -> Content:
        read.append(records)
        return content_of(records)

    monkeypatch.setattr(server.rounds.exchanges.signer, "content_of", counted)
    request = pack(TRAINING, card.build().state_dict())
    signed = hospitals.signer.sign(dict.fromkeys(NAMES, request), TRAIN, Scope(), timedelta(hours=1))
    assert len(read) == 1
    assert len({instruction.content for _, instruction in signed.values()}) == 1
    assert len({instruction.nonce for _, instruction in signed.values()}) == 3
    assert "signature" not in request


def changed(reply: Message, **records: Any) -> Message:
    """The same reply with other records."""
    copy = Message.__new__(Message)
    copy.__dict__.update({**reply.__dict__, "_content": RecordDict({**reply.content, **records})})
    return copy


def only(node: int, do: Callable[[Message], list[Message]]) -> Callable[[int, Message], list[Message]]:
    return lambda source, reply: do(reply) if source == node else [reply]


def test_an_unsigned_reply_is_dropped_and_reported(hospitals: Hospitals) -> None:
    # Without its settings the folder is a simulated site's, which signs nothing.
    (hospitals.folders["north"] / CONFIG_FILE).unlink()
    assert set(hospitals.ask()) == {"east", "south"}
    assert hospitals.bad == [("north", STATUS, "a message without a signature")]


def test_a_reply_with_another_key_than_the_pinned_one_is_dropped(hospitals: Hospitals) -> None:
    folder = SiteFolder(hospitals.folders["north"])
    folder.signing_key.unlink()
    write_private(folder.signing_key, SigningKey.generate().to_pem(read_passphrase(folder.passphrase)))
    assert set(hospitals.ask()) == {"east", "south"}
    assert [(site, kind) for site, kind, _ in hospitals.bad] == [("north", STATUS)]
    assert "not among the pinned keys" in hospitals.bad[0][2]


def test_a_reply_of_a_site_whose_key_was_withdrawn_is_dropped(hospitals: Hospitals) -> None:
    keys = {name: key for name, key in hospitals.signer.sites.items() if name != "north"}
    hospitals.federation.signer = Signer(hospitals.signer.key, hospitals.signer.federation, keys)
    assert set(hospitals.ask()) == {"east", "south"}
    assert hospitals.bad == [("north", STATUS, "a reply of a site whose key is not pinned")]


def test_an_old_genuine_reply_is_dropped(hospitals: Hospitals) -> None:
    earlier = hospitals.ask()["north"]
    replay = only(hospitals.nodes["north"], lambda reply: [changed(reply, **earlier)])
    hospitals.grid.deliver = replay
    assert set(hospitals.ask()) == {"east", "south"}
    assert hospitals.bad == [("north", STATUS, "a reply to another request")]


def test_another_sites_genuine_reply_is_dropped(hospitals: Hospitals) -> None:
    souths = hospitals.ask()["south"]
    hospitals.grid.deliver = only(hospitals.nodes["north"], lambda reply: [changed(reply, **souths)])
    assert set(hospitals.ask()) == {"east", "south"}
    assert [site for site, _, _ in hospitals.bad] == ["north"]


def test_weights_that_were_changed_on_the_way_are_dropped(hospitals: Hospitals, card: ModelCard) -> None:
    state = card.build().state_dict()
    forged = pack(StatusRequest(), state)["arrays"]
    hospitals.grid.deliver = only(hospitals.nodes["north"], lambda reply: [changed(reply, arrays=forged)])
    replies = hospitals.federation.exchange(TRAIN, dict.fromkeys(("east", "north"), pack(TRAINING, state)))
    assert [name for name, _ in replies] == ["east"]
    assert hospitals.bad == [("north", TRAIN, "a reply whose body or weights are not the ones that were signed")]


def test_a_request_that_was_changed_on_the_way_is_refused_by_the_site(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push = hospitals.grid.push_messages
    body = ConfigRecord({"type": "StatusRequest", "json": '{"all":true}'})
    monkeypatch.setattr(
        hospitals.grid, "push_messages", lambda messages: push([changed(m, body=body) for m in messages])
    )
    with pytest.raises(UnavailableError, match="no site answered"):
        hospitals.ask()
    assert "whose body or weights are not the ones that were signed" in caplog.text
    assert "answered query.status with error refused" in caplog.text
    # Hospitals that refuse have done nothing wrong.
    assert hospitals.bad == []


def test_a_request_that_arrives_twice_is_carried_out_once(hospitals: Hospitals, card: ModelCard) -> None:
    request = pack(TRAINING, card.build().state_dict())
    ((_, first),) = hospitals.federation.exchange(TRAIN, {"north": request})
    repeated = Message(hospitals.grid.pushed[-1].content, hospitals.nodes["north"], TRAIN)
    (second,) = hospitals.grid.send_and_receive([repeated])
    with pytest.raises(WireError, match="'refused'"):
        unpack(second.content, TrainReply)
    assert unpack(first, TrainReply).site == "north"


def test_a_reply_that_arrives_twice_counts_once(hospitals: Hospitals) -> None:
    hospitals.grid.deliver = lambda _, reply: [reply, reply]
    request = pack(StatusRequest())
    names = [name for name, _ in hospitals.federation.exchange(STATUS, dict.fromkeys(NAMES, request))]
    assert names == list(NAMES)


def test_a_site_that_hangs_does_not_hold_up_the_others(hospitals: Hospitals, caplog: pytest.LogCaptureFixture) -> None:
    hospitals.grid.deliver = only(hospitals.nodes["east"], lambda _: [])
    exchange = hospitals.federation.exchange(STATUS, dict.fromkeys(NAMES, pack(StatusRequest())), 600.0)
    assert [next(exchange)[0] for _ in range(2)] == ["north", "south"]
    assert hospitals.clock.seconds == 0.0
    assert list(exchange) == []
    assert hospitals.clock.seconds == pytest.approx(600.0, abs=0.1)
    assert "east: no answer to query.status in time" in caplog.text


def test_a_late_reply_is_left_out_of_this_exchange_and_of_the_next(hospitals: Hospitals) -> None:
    hospitals.grid.deliver = only(hospitals.nodes["east"], lambda _: [])
    assert set(hospitals.ask(deadline=5.0)) == {"north", "south"}
    hospitals.grid.deliver = lambda _, reply: [reply]
    replies = hospitals.ask()
    assert list(replies) == list(NAMES)
    assert hospitals.bad == []


def test_what_came_while_a_reply_was_worked_on_is_not_late(hospitals: Hospitals) -> None:
    names = []
    for name, _ in hospitals.federation.exchange(STATUS, dict.fromkeys(NAMES, pack(StatusRequest())), 5.0):
        names.append(name)
        hospitals.clock.wait(10.0)

    assert names == list(NAMES)


def test_a_message_that_flower_does_not_take_is_not_waited_for(
    hospitals: Hospitals, caplog: pytest.LogCaptureFixture
) -> None:
    hospitals.grid.refuse = {hospitals.nodes["north"]}
    assert set(hospitals.ask()) == {"east", "south"}
    assert hospitals.clock.seconds == 0.0
    assert "north: query.status could not be sent" in caplog.text


def test_the_instruction_is_in_force_as_long_as_the_server_waits(hospitals: Hospitals) -> None:
    hospitals.ask(deadline=90.5)
    instruction = read_instruction(hospitals.grid.pushed[-1].content, hospitals.signer.key.public)
    assert (instruction.end - hospitals.signer.now()).total_seconds() == pytest.approx(92, abs=2)


def test_only_registered_nodes_that_are_online_take_part(hospitals: Hospitals) -> None:
    clock = Clock()
    nodes = {"north": hospitals.nodes["north"], "west": 99}
    found = connect_registered(hospitals.grid, nodes, hospitals.signer, timeout=-1.0, wait=clock.wait)
    assert found.sites == ("north",)
    with pytest.raises(UnavailableError, match="1 of 2 sites are online, 2 needed"):
        connect_registered(hospitals.grid, nodes, hospitals.signer, at_least=2, timeout=-1.0, wait=clock.wait)


def test_a_dead_node_beside_its_successor_does_not_block(
    federation_of: Callable[..., tuple[Federation, dict[str, Site]]], caplog: pytest.LogCaptureFixture
) -> None:
    _, sites = federation_of(north=2)
    live = {"site-dir": str(sites["north"].folder)}
    grid = LocalGrid(app, {1: {"site-dir": "nowhere"}, 2: live})
    assert connect(grid, 1).nodes == {"north": 2}
    with pytest.raises(UnavailableError, match="1 of 2 sites answered"):
        connect(grid, 2)
