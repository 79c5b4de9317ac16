"""A qualification at a real coordinator's folder: register, log, kills, campaigns that go first, and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import RecordDict
from rehearsal_world import CONFIG, PLAN, World
from sqlalchemy import select
from typer.testing import CliRunner

from common.errors import RefusedError
from common.evidence import dsse
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort
from common.platform.sql import transaction
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.qualification import deployed
from server.campaign.qualification.description import lineage_of, store_of
from server.campaign.qualification.store import REGISTER_TYPE, QualificationStore
from server.cli import app
from server.database import EventRow
from server.registry.manifest import Provenance
from server.rounds.states import CampaignState
from server.settings import PolicyConfig, ServerFolder

FACTS = Provenance(round=1, run=None, code="test", config="test", sites=("north", "south"))


class Deployed:
    """The coordinator's folder with a model in use, and the sites of a `World`."""

    def __init__(self, world: World, folder: ServerFolder) -> None:
        self.world = world
        house = open_house(folder.root)
        policy = PolicyConfig(single_writer="accept")
        settings = house.settings.model_copy(update={"experiment": CONFIG, "policy": policy, "qualification": PLAN})
        self.house: CoordinatorContext = replace(house, settings=settings)
        house.registry.publish(world.state, world.card, parent=None, campaign=None, provenance=FACTS)
        self.store: QualificationStore = store_of(self.house)

    def ask(self) -> int:
        return self.store.request(PLAN, lineage_of(self.house) or "")

    def carry_on(self, number: int) -> None:
        deployed.carry_on(self.house, self.world.federation, number)

    def events(self) -> list[tuple[str, str]]:
        with transaction(self.house.engine) as session:
            rows = session.scalars(select(EventRow).where(EventRow.kind.startswith("qualification"))).all()
            return [(row.kind, row.detail) for row in rows]


@pytest.fixture
def there(tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort], coordinator: ServerFolder) -> Deployed:
    return Deployed(World(tmp_path, card, cohort_of), coordinator)


def test_a_campaign_overtakes_a_qualification_which_goes_on_and_is_shown(there: Deployed) -> None:
    number = there.ask()
    house = there.house
    campaign = house.store.plan("training", house.terms.model_dump(mode="json"), parent=None, due=None, reason="test")

    there.carry_on(number)

    assert there.store.standing(number).waits == "a real campaign goes first"
    # What is fixed beforehand is signed and logged before the first rehearsal.
    register = there.store.registered(number)
    assert register is not None
    assert there.events() == [("qualification-registered", f"qualification 1: {register.digest}")]
    envelope = dsse.decode_envelope((house.folder.qualifications / "1" / "register.dsse.json").read_bytes())
    assert envelope.payload_type == REGISTER_TYPE
    assert envelope.body == register.document
    assert envelope.signatures[0].keyid == house.signing_key().public.keyid

    house.store.end(campaign, CampaignState.CANCELLED, "test")
    there.carry_on(number)

    result = there.store.result(number)
    assert result is not None
    assert result.qualification.rehearsals == 6
    assert there.events()[-1][0] == "qualification-ended"
    assert there.store.open() is None

    shown = CliRunner().invoke(app, ["qualify", "show", "--json", "--dir", str(house.folder.root)])
    found = json.loads(shown.stdout)
    assert (found["state"], found["register"]) == ("not qualified", register.digest)
    assert set(found["criteria"]) == {"Q1", "Q2", "Q3", "Q4", "Q5"}
    with pytest.raises(RefusedError, match="1 attempt"):
        there.ask()


def test_a_coordinator_that_is_killed_goes_on_and_one_whose_model_was_trained_anew_stops(
    there: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    number = there.ask()
    exchange = there.world.federation.exchange
    exchanges = 0

    def killed(
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        nonlocal exchanges
        exchanges += 1
        if exchanges == 4:
            raise KilledError
        return exchange(kind, requests, deadline, whole)

    monkeypatch.setattr(there.world.federation, "exchange", killed)
    with pytest.raises(KilledError):
        there.carry_on(number)
    assert there.store.open() == number

    anew = there.world.card.build(9).state_dict()
    there.house.registry.publish(anew, there.world.card, parent=None, campaign=None, provenance=FACTS)
    there.carry_on(number)

    assert there.store.standing(number).stopped == "the model was retrained meanwhile"
    assert not list((there.house.folder.qualifications / "1").glob("*.safetensors"))


def test_too_few_never_seen_patients_end_it_in_one_line(there: Deployed) -> None:
    number = there.store.request(PLAN.model_copy(update={"least_controls": 100}), lineage_of(there.house) or "")

    there.carry_on(number)

    assert "80 never-seen patients are missing" in there.store.standing(number).stopped
    # It was never registered, so that the attempt is not spent.
    assert there.ask() == 2
    stopped = CliRunner().invoke(
        app, ["qualify", "stop", "--reason", "other settings", "--json", "--dir", str(there.house.folder.root)]
    )
    assert json.loads(stopped.stdout) == {"number": 2, "state": "stopped"}
