"""A campaign that forgets exactly, from its conditions to what is attested; its hospitals are real but for the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from encoder_folders import save_image, save_text

from client.cohort.site import Site
from common.errors import EvidenceError
from common.evidence.outcomes.acceptance import accepted_by
from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from server.campaign.verdict.acceptance import outcome_of
from server.settings import GateConfig, PolicyConfig, Terms
from tests.server.attestation.test_attestation import EXPERIMENT, LENIENT, World, world  # noqa: F401 - a fixture

WHO = "Dr. Frost, data protection officer of the network"


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    """Both encoders frozen, from folders of random weights."""
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(save_image(tmp_path / "image", "resnet")),
        text_encoder="folder",
        text_folder=str(save_text(tmp_path / "text", "distilbert")),
        frozen="both",
        embedding=8,
    )
    return ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()


def carry(here: World, kind: str, declared_by: str = WHO) -> int:
    """A campaign with `unlearn.method = "exact"`."""
    unlearn = UnlearnConfig.model_validate({"method": "exact", "exact": {"declared_by": declared_by}})
    train = TrainConfig(rounds=2, local_epochs=1, batch=4)
    experiment = EXPERIMENT.model_copy(update={"decision": LENIENT, "unlearn": unlearn, "train": train})
    terms = Terms(experiment=experiment, policy=PolicyConfig(quorum=0.4), gate=GateConfig())
    active = here.house.registry.active()
    store = here.house.store
    number = store.plan(
        kind, terms.model_dump(mode="json"), parent=active.name if active else None, due=None, reason="test"
    )
    assert here.carrier.carry_on(number, store.take_up(number)) == "published", store.get(number).reason

    return number


def revoke(here: World, name: str) -> None:
    site = Site(here.folders[name].root)
    site.revoke(sorted(site.patients(Subset.TRAIN))[:1])


def test_a_single_patient_is_forgotten_exactly_and_the_attestation_says_on_what_that_rests(world: World) -> None:  # noqa: F811
    first = carry(world, "training")
    revoke(world, "north")
    number = carry(world, "unlearning")
    said = outcome_of(world.house.store, number)
    assert said is not None
    assert said.outcome == "exact"
    assert {version.name: version.state for version in world.house.registry.versions()} == {
        "v0001": "quarantined", "v0002": "active",
    }  # fmt: skip
    assert not Site(world.folders["north"].root).forget

    world.talk("north")
    world.talk("north")
    assert world.said(number) == "signed by server, north"
    statement = world.statement(number)
    assert (statement.method.name, statement.decision.outcome) == ("exact", "exact")
    card = world.carrier.card
    frozen = statement.frozen
    assert frozen is not None
    assert (frozen.image_encoder, frozen.text_encoder) == (card.image_encoder, card.text_encoder)
    assert (frozen.since, frozen.declared_by) == (str(first), WHO)
    lines = "\n".join(accepted_by(statement).lines)  # type: ignore[union-attr]
    assert WHO in lines
    assert "the campaign's own audit, on which the outcome does not rest" in lines
    assert "image projection" in lines

    for wrong in ({"frozen": None}, {"method": replace(statement.method, name="retrained")}):
        with pytest.raises(EvidenceError, match="exact"):
            replace(statement, **wrong)


def test_a_second_patient_is_forgotten_from_the_same_first_weights(world: World) -> None:  # noqa: F811
    first = carry(world, "training")
    digests = set()
    for name in ("north", "south"):
        revoke(world, name)
        number = carry(world, "unlearning")
        world.talk()
        world.talk()
        statement = world.statement(number)
        assert statement.frozen is not None
        assert statement.frozen.since == str(first)
        digests.add(statement.frozen.initial)

    assert len(digests) == 1


def test_without_a_declaration_the_whole_model_is_trained_again_and_it_says_why(world: World) -> None:  # noqa: F811
    carry(world, "training")
    revoke(world, "north")
    number = carry(world, "unlearning", declared_by=" ")
    said = outcome_of(world.house.store, number)
    assert said is not None
    assert said.outcome == "accepted"
    assert said.grounds is not None
    assert said.grounds.rung == "retrain"
    assert [(fall.rung, "declared" in fall.reason) for fall in said.grounds.descents] == [("exact", True)]
