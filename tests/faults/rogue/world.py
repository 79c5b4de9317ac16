"""A coordinator with its real database, loop and campaign code, and four small hospitals on a grid in this process.

Nothing is signed and honest answers are remembered, so that thousands of campaigns take minutes.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flwr.app import ConfigRecord, Error, Message, RecordDict

import server.app
from client.app import app, open_site
from client.cohort.site import Site
from common.errors import UnavailableError
from common.learning.model.card import ModelCard
from common.learning.records import Subset
from common.platform.sql import open_database, transaction
from common.protocol.bundle import Bundle, installed_bundle
from common.protocol.messages import ADOPT, STATUS, AdoptReply, AdoptRequest, StatusReply
from common.protocol.wire import pack, unpack
from rogue.grid import Play, RogueGrid
from rogue.hospitals import CLASSES, small_card, write_hospitals
from server.campaign.context import CoordinatorContext, open_house
from server.database import SiteRow, StudyCountRow, migrate
from server.membership.setup import create_server
from server.rounds.federation import Federation
from server.runtime.control import RunStatus
from server.runtime.coordinator import Coordinator

SITES = ("east", "north", "south", "west")
SIZES = {Subset.TRAIN: 16, Subset.VALIDATION: 4, Subset.CALIBRATION: 6, Subset.AUDIT: 6, Subset.TEST: 24}
PENDING = {"north": 2, "west": 2}
"""Who has revocations waiting when a play begins."""
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
DUE = START + timedelta(days=30)
SETTINGS = """
[policy]
single_writer = "accept"
quorum = 0.4
min_batch = 1
hold_hours = 1e6

[experiment.data]
image_size = 32
max_tokens = 16

[experiment.model]
width = 4
embedding = 8
text_hidden = 16
text_layers = 1

[experiment.train]
rounds = 3
local_epochs = 2
batch = 8
lr = 3e-3

[experiment.unlearn]
passes = 2

[experiment.campaign]
retention_rounds = 1


[experiment.decision]
bootstrap = 50
auc_margin = 0.5
accuracy_margin = 1.0
utility_tolerance = 0.05
ks_alpha = 0.0
"""
"""A few patients decide nothing by honest margins of membership; utility is judged as it would be. The clock of an
exchange leaps to its deadline, so silence must not use up a budget of hours."""


class Silent(Exception):
    """The rogue does not answer at all."""


@dataclass
class Clock:
    """Of a play."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Pending:
    """Who still waits, as honest hospitals would say; an adoption ends it."""

    left: dict[str, int] = field(default_factory=lambda: dict(PENDING))
    forgotten: dict[str, datetime] = field(default_factory=dict)


class WorldGrid(RogueGrid):
    """As a `RogueGrid`; statuses and adoptions are of this play and touch no folder."""

    def __init__(self, *arguments: Any, pending: Pending, clock: Clock) -> None:
        super().__init__(*arguments)
        self.pending = pending
        self.clock = clock

    def push_messages(self, messages: Any) -> Any:
        ids: list[str] = []
        for message in messages:
            ids += super().push_messages([message])
            if self._silent:
                self._replies.pop(ids[-1])

        return ids

    def _handle(self, message: Message) -> Message:
        self._silent = False
        kind = message.metadata.message_type
        name = SITES[message.metadata.dst_node_id - 1]

        if kind in {STATUS, ADOPT}:
            answered = self._status(name, message) if kind == STATUS else self._adopted(name, message)
            if message.metadata.dst_node_id != self.rogue:
                return Message(answered, reply_to=message)

        try:
            if kind in {STATUS, ADOPT}:
                return Message(self.play(kind, answered), reply_to=message)
            return super()._handle(message)
        except Silent:
            self._silent = True
        except RuntimeError:
            pass

        return Message(Error(code=2, reason="RuntimeError"), reply_to=message)

    def _status(self, name: str, message: Message) -> RecordDict:
        key = f"status/{name}"
        if key not in self.remembered:
            self.remembered[key] = self._app(message, self._contexts[message.metadata.dst_node_id]).content
        told = unpack(self.remembered[key], StatusReply)
        waiting = self.pending.left.get(name, 0)
        registered = {**told.registered, "forget": waiting}
        if not waiting:
            nobody = {"registered": registered, "pending": 0, "first_due": None, "train_studies": told.retain_studies}
            return pack(told.model_copy(update=nobody))

        return pack(told.model_copy(update={"registered": registered, "first_due": DUE}))

    def _adopted(self, name: str, message: Message) -> RecordDict:
        body = message.content["body"]
        assert isinstance(body, ConfigRecord)
        request = AdoptRequest.model_validate_json(str(body["json"]))
        closed = 0
        if request.how != "trained" and self.pending.left.get(name):
            closed = self.pending.left.pop(name)
            self.pending.forgotten[name] = self.clock()

        return pack(AdoptReply(site=name, purged=request.retired, closed=closed))


@dataclass
class LocalRuns:
    """Runs that are carried on in this process, at once."""

    play: Played
    count: int = 0

    def start(self, _bundle: Bundle, config: Any, _series: Any) -> tuple[int, int]:
        self.count += 1
        server.app.carry_on(self.play.grid, self.play.folder, config["campaign"], config["attempt"], self.count)
        return self.count, 1

    def status(self, _run: int) -> RunStatus:
        return RunStatus("finished", "completed", "")

    def stop(self, _run: int) -> bool:
        return False

    def nodes(self) -> list[Any]:
        return []

    def register_node(self, _key: bytes, name: str) -> int:
        return 1 + SITES.index(name.rsplit("-", 1)[0])

    def unregister_node(self, _node: int) -> None:
        """Nobody is there to shut out."""


@dataclass
class Played:
    """One play: its folder, clock and grid."""

    folder: Path
    clock: Clock
    grid: WorldGrid
    pending: Pending
    away: int = 0
    """So many runs find no hospital online."""

    @contextmanager
    def house(self) -> Iterator[CoordinatorContext]:
        """The coordinator's folder, opened."""
        house = open_house(self.folder, self.clock)

        try:
            yield house
        finally:
            house.engine.dispose()

    def run(self, days: float = 31.0, most: int = 80) -> int:
        """Tick until nobody waits, or the time is over; how many ticks it took."""
        ticks = 0
        end = self.clock.now + timedelta(days=days)

        with self.house() as house, self._in_process():
            coordinator = Coordinator(house, LocalRuns(self), installed_bundle())
            while ticks < most and self.clock.now < end:
                ticks += 1
                self._announce(house)
                coordinator.tick()
                row = house.store.open()
                if row is None and not self.pending.left:
                    break
                wait = timedelta(minutes=30) if row is not None else timedelta(hours=7)
                if row is not None and row.retry_at is not None:
                    wait = max(row.retry_at - self.clock.now, timedelta(minutes=1))
                self.clock.now += wait

        return ticks

    def _announce(self, house: CoordinatorContext) -> None:
        """As hospitals announce; the rogue says what it said in the beginning."""
        with transaction(house.engine) as session:
            for name in SITES:
                row = session.get_one(SiteRow, name)
                row.pending = self.pending.left.get(name, 0)
                row.announced = (row.announced or self.clock()) if row.pending else None
                row.first_due = DUE if row.pending else None

    @contextmanager
    def _in_process(self) -> Iterator[None]:
        time = [0.0]

        def skip(_seconds: float) -> None:
            time[0] += 1e6

        def connected(grid: Any, nodes: Any, _signer: Any, **_more: Any) -> Federation:
            if self.away:
                self.away -= 1
                raise UnavailableError(f"0 of {len(nodes)} sites are online, 1 needed")
            return Federation(grid, nodes, poll=0.0, wait=skip, clock=lambda: time[0])

        with (
            quick_models(),
            patch.object(server.app, "connect_registered", connected),
            patch.object(server.app, "open_house", lambda folder: open_house(folder, self.clock)),
            patch.object(CoordinatorContext, "signer", lambda _: None),
        ):
            yield


BUILT: dict[tuple[str, int], bytes] = {}
"""Pickled models by card and seed."""


@contextmanager
def quick_models() -> Iterator[None]:
    """Build each model once and copy it: most of a play's time goes into building the same text encoder."""
    build = ModelCard.build

    def copied(card: ModelCard, seed: int = 0) -> Any:
        key = card.model_dump_json(), seed
        if key not in BUILT:
            BUILT[key] = pickle.dumps(build(card, seed))
        return pickle.loads(BUILT[key])  # noqa: S301 - written one line above

    with patch.object(ModelCard, "build", copied):
        yield


@dataclass
class World:
    """Hospitals and a coordinator with a first model; each play has a copy of the coordinator."""

    root: Path
    spread: float = 0.0
    """Of patients' brightness: 0 gives a model without errors, 30 one that unlearning harms, so campaigns retrain."""
    remembered: dict[str, RecordDict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        open_site.cache_clear()
        card = small_card()
        folders = write_hospitals(self.root, SITES, SIZES, card, self.spread)
        judged = {Subset.TRAIN: 2, Subset.TEST: 200}
        self.judge = Site(write_hospitals(self.root / "judge", ("judge",), judged, card, self.spread)["judge"])
        self.nodes = {node: {"site-dir": str(folders[name])} for node, name in enumerate(SITES, start=1)}
        self.start = self.root / "coordinator"
        create_server(self.start, ["localhost"], datetime.now(UTC), CLASSES)
        file = self.start / "server.toml"
        kept = file.read_text().split("\n[")[0]
        file.write_text(kept + "\n" + SETTINGS)
        self._enrol(folders)
        first = Played(self.start, Clock(), self._grid(0, lambda _, reply: reply, Pending({}), Clock()), Pending({}))
        with first.house() as house:
            house.store.plan("training", house.terms.model_dump(mode="json"), parent=None, due=None, reason="first")
        first.run(days=1.0)
        for name, count in PENDING.items():
            site = Site(folders[name])
            site.revoke(sorted(site.patients(Subset.TRAIN))[:count])

        self.remembered.clear()
        open_site.cache_clear()

    def _enrol(self, folders: Mapping[str, Path]) -> None:
        from server.settings import ServerFolder

        folder = ServerFolder(self.start)
        engine = open_database(folder.database_url(folder.settings()))
        migrate(engine)

        with transaction(engine) as session:
            for name in SITES:
                session.add(
                    SiteRow(name=name, state="active", node_key=name, signing_key="", certificate="", enrolled=START)
                )
                session.flush()
                session.add(
                    StudyCountRow(
                        site=name,
                        sequence=1,
                        train_studies=Site(folders[name]).status().train_studies,
                        state="approved",
                        received=START,
                        envelope="",
                    )
                )

        engine.dispose()

    def _grid(self, rogue: int, play: Play, pending: Pending, clock: Clock) -> WorldGrid:
        return WorldGrid(app, self.nodes, rogue, play, self.remembered, pending=pending, clock=clock)

    def played(self, folder: Path, rogue: str, play: Play) -> Played:
        """A copy of the coordinator, with one rogue hospital."""
        shutil.copytree(self.start, folder)
        pending = Pending()
        clock = Clock()

        return Played(folder, clock, self._grid(1 + SITES.index(rogue), play, pending, clock), pending)
