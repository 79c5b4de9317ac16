"""Whatever one hospital answers: the round goes on with the others, and the bad reply is put down to it by name."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rogue.grid import RogueGrid
from rogue.hospitals import small_card, write_hospitals
from rogue.mutations import ODD, odd_reply, put, with_body

from client.app import app, open_site
from client.cohort.site import Site
from common.errors import UnavailableError
from common.learning.config import CampaignConfig, DecisionConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.protocol.messages import ADOPT, TRAIN, AdoptReply, AdoptRequest
from server.campaign.campaign import audit, collect
from server.rounds.aggregation import shares
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.selection import select
from server.rounds.training import average_round
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import Collected, Task

CONFIG = ExperimentConfig(
    train=TrainConfig(rounds=1, local_epochs=1, batch=8),
    unlearn=UnlearnConfig(passes=1),
    decision=DecisionConfig(bootstrap=50),
    campaign=CampaignConfig.model_validate({"aggregation": "relay"}),
)
SITES = ("east", "north", "south")
ROGUE = "south"
SIZES = {Subset.TRAIN: 8, Subset.VALIDATION: 6, Subset.CALIBRATION: 6, Subset.AUDIT: 6, Subset.TEST: 8}
Play = Callable[[str, RecordDict], RecordDict]


def honest(_kind: str, reply: RecordDict) -> RecordDict:
    return reply


@dataclass(repr=False)
class Scene:
    """Three hospitals, of which south answers as `play` says; two patients revoke there and two at north."""

    nodes: dict[int, dict[str, str]]
    card: ModelCard
    folder: Path
    play: Play = honest
    remembered: dict[str, RecordDict] = field(default_factory=dict)
    reported: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parent = self.card.build(3).state_dict()
        self.names = dict(connect(self._grid(), len(SITES)).nodes)
        self.collected: Collected = collect(self.federation())

    def _grid(self) -> RogueGrid:
        return RogueGrid(app, self.nodes, 1 + SITES.index(ROGUE), self._answer, self.remembered)

    def _answer(self, kind: str, reply: RecordDict) -> RecordDict:
        return self.play(kind, reply)

    def federation(self) -> Federation:
        """As it is after the sites have registered."""
        federation = Federation(self._grid(), self.names, classes=len(self.card.classes), poll=0.0)
        play = self.play
        self.play = honest
        federation.status()
        self.play = play
        federation.on_bad_reply = lambda *told: self.reported.append(told)

        return federation

    def run(self, what: str, play: Play) -> Any:
        """What the coordinator makes of it; None where nothing can be made without south."""
        self.reported.clear()
        self.play = play

        try:
            return WORK[what](self, self.federation())
        except UnavailableError:
            return None
        finally:
            self.play = honest


def _train(scene: Scene, federation: Federation) -> Any:
    registered = shares({"east": 8, "north": 6, "south": 6})
    return average_round(federation, TRAIN, scene.parent, registered, CONFIG.train, epochs=1, number=0, seed=0)


def _unlearn(scene: Scene, federation: Federation) -> Any:
    task = Task(federation, scene.parent, scene.collected, CONFIG, MemoryJournal(), scene.folder / "work", Meter())
    return at_sites(task)


def _adopt(scene: Scene, federation: Federation) -> Any:
    plain = AdoptRequest(version="v0001", digest="a" * 64, campaign=1, how="trained")
    packed = {name: federation.downlink.whole(plain, scene.parent) for name in federation.sites}
    return [federation.read(n, ADOPT, reply, AdoptReply) for n, reply in federation.exchange(ADOPT, packed)]


WORK: dict[str, Callable[[Scene, Federation], Any]] = {
    "status": lambda _, federation: federation.status(),
    "train": _train,
    "unlearn": _unlearn,
    "audit": lambda s, federation: audit(federation, s.parent, CONFIG.decision, 0, s.collected),
    "selection": lambda s, federation: select(federation, s.parent, 0, s.collected.eligible(Subset.CALIBRATION)),
    "adopt": _adopt,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    open_site.cache_clear()
    root = tmp_path_factory.mktemp("rogue")
    card = small_card()
    folders = write_hospitals(root, SITES, SIZES, card)
    for name in ("north", ROGUE):
        site = Site(folders[name])
        site.revoke(sorted(site.patients(Subset.TRAIN))[:2])

    scene = Scene({n: {"site-dir": str(folders[name])} for n, name in enumerate(SITES, start=1)}, card, root)
    # Asked once for all tests: an adoption, the last of them, ends the revocations.
    for what in WORK:
        scene.run(what, honest)
    return scene


def finite(made: Any) -> bool:
    """Whether all that was made of the replies are numbers."""
    if made is None:
        return True
    if isinstance(made, tuple) and isinstance(made[0], dict):
        made = made[0]
    if isinstance(made, dict) and made and isinstance(next(iter(made.values())), torch.Tensor):
        return all(bool(torch.isfinite(t).all()) for t in made.values() if t.is_floating_point())
    return re.search(r"\b(nan|inf)\b", repr(made)) is None


def assert_attributed(scene: Scene, what: str, play: Play) -> None:
    """Nothing is raised but that a site is missing, nobody else is blamed, and no text of the rogue is told on."""
    touched: list[RecordDict] = []

    def noted(kind: str, reply: RecordDict) -> RecordDict:
        answer = play(kind, reply)
        touched.append(answer)
        return answer

    made = scene.run(what, noted)
    assert touched
    assert finite(made)
    assert {site for site, _, _ in scene.reported} <= {ROGUE}

    for _, _, reason in scene.reported:
        assert reason.isascii()
        assert reason.isprintable()
        assert len(reason) < 400

    if what != "unlearn":
        assert made is not None, "the others' replies are enough"
    elif made is None:
        assert scene.reported or "ErrorReply" in str(touched)


@pytest.mark.parametrize("what", WORK)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_odd_reply_is_put_down_to_who_sent_it_and_the_round_goes_on(scene: Scene, what: str, seed: int) -> None:
    # One seed for all choices: what can be chosen depends on the reply, whose times differ from run to run.
    assert_attributed(scene, what, lambda _, reply: odd_reply(reply, random.Random(seed)))


@pytest.mark.parametrize("what", WORK)
def test_an_honest_reply_is_taken(scene: Scene, what: str) -> None:
    assert scene.run(what, honest) is not None
    assert scene.reported == []


AUDITS: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "no test group": (("audit", "groups", "test"), ODD[0]),
    "no fused branch": (("audit", "groups", "test", "fused"), ODD[0]),
    "negative variance": (("audit", "membership", "fused", "variance"), -0.1),
    "NaN": (("audit", "membership", "fused", "auc"), float("nan")),
    "no variance": (("audit", "membership", "fused", "variance"), None),
    "an AUC of 2": (("audit", "membership", "fused", "auc"), 2.0),
    "another number of classes": (("audit", "groups", "test", "fused", "confusion"), [[1]]),
    "a matrix that is not square": (("audit", "groups", "test", "fused", "confusion", 0), [1, 1, 1]),
    "more wins than pairs": (("audit", "groups", "test", "fused", "auc", 0, "wins"), 1e9),
    "negative counts": (("audit", "groups", "test", "fused", "patients"), -8),
    "huge whole numbers": (("audit", "groups", "test", "fused", "auc", 0, "pairs"), 10**400),
    "more patients than registered": (("audit", "membership", "fused", "forget_patients"), 10**7),
    "a loss that overflows the sum of all sites": (("audit", "groups", "retain", "fused", "loss_sum"), 1e18),
    "an infinite loss": (("audit", "groups", "test", "fused", "loss_sum"), float("inf")),
    "unsorted edges": (("audit", "groups", "test", "fused", "losses", "edges"), [1.0, 0.0]),
    "edges that nobody agreed": (("audit", "groups", "test", "fused", "losses", "edges", 0), 0.005),
    "a cell of one": (("audit", "groups", "test", "fused", "losses", "counts", 0), 1),
    "no figures": (("audit",), None),
    "text of its own": (("audit", "membership", "fused", "missing"), {"svc": "\x1b[2Jall is well"}),
    "the name of another": (("site",), "north"),
}


@pytest.mark.parametrize("what", AUDITS)
def test_an_impossible_audit_is_refused_by_name_and_the_others_are_merged(scene: Scene, what: str) -> None:
    path, value = AUDITS[what]
    made = scene.run("audit", lambda _, reply: with_body(reply, lambda body: put(body, path, value)))
    assert [(site, kind) for site, kind, _ in scene.reported] == [(ROGUE, "evaluate")]
    assert sorted(made.test_by_site) == ["east", "north"]


def test_a_bystanders_claim_to_have_forgotten_patients_is_no_evidence(scene: Scene) -> None:
    """East collected nobody; its ten million, or its four, forgotten patients at .5 weigh nothing."""
    before = scene.run("audit", honest)
    body = json.loads(str(_reply_of(scene, "audit")["body"]["json"]))["audit"]["membership"]
    remembered = dict(scene.remembered)

    try:
        for key, reply in remembered.items():
            record = reply.get("body")
            if isinstance(record, ConfigRecord) and json.loads(str(record["json"])).get("site") == "east":
                claim = put(body, ("fused", "auc"), 0.5)
                if json.loads(str(record["json"])).get("audit"):
                    scene.remembered[key] = with_body(reply, partial(put, path=("audit", "membership"), new=claim))

        after = scene.run("audit", honest)
    finally:
        scene.remembered.update(remembered)

    assert scene.reported == []
    assert after.membership == before.membership
    assert sorted(after.membership_by_site) == ["north", "south"]


def test_a_forgetting_site_weighs_by_what_was_collected_and_claims_no_smaller_variance_than_that_allows(
    scene: Scene,
) -> None:
    def claims(kind: str, reply: RecordDict) -> RecordDict:
        for name, value in {"forget_patients": 8, "control_patients": 6, "variance": 0.0, "auc": 0.5}.items():
            reply = with_body(reply, partial(put, path=("audit", "membership", "fused", name), new=value))
        return reply

    fused = scene.run("audit", claims).membership["fused"]
    assert scene.reported == []
    assert fused.forget_patients == 4
    assert fused.variance > 0.02


def test_patients_who_were_collected_and_not_measured_leave_it_open(scene: Scene) -> None:
    def one_less(kind: str, reply: RecordDict) -> RecordDict:
        nobody = {"forget_patients": 0, "control_patients": 0, **dict.fromkeys(("auc", "variance", "ks", "ks_p"))}
        none = dict.fromkeys(("image", "text", "fused"), nobody)
        return with_body(reply, lambda body: put(body, ("audit", "membership"), none))

    fused = scene.run("audit", one_less).membership["fused"]
    assert "2 patients to forget were not measured" in fused.missing["sites"]


def _reply_of(scene: Scene, what: str) -> RecordDict:
    seen: list[RecordDict] = []

    def note(kind: str, reply: RecordDict) -> RecordDict:
        seen.append(reply)
        return reply

    scene.run(what, note)
    return seen[-1]


def test_the_same_mutations_reach_every_kind_of_reply(scene: Scene) -> None:
    """The fuzzer itself: most of what it sends is refused, and it reaches weights as well as figures."""
    draw = random.Random(1)
    refused = 0
    for _ in range(60):
        scene.run("train", lambda _, reply: odd_reply(reply, draw))
        refused += bool(scene.reported)

    assert refused > 30
