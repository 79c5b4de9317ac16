"""Exact forgetting has the bits of a federation that never had the patients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from encoder_folders import save_image, save_text

from client.app import app, open_site
from client.cohort.imports.own_encoders import OwnFolders, with_own_folders
from client.cohort.site import Site
from client.cohort.site_files import write_site
from common.errors import ConfigError
from common.learning.config import (
    CampaignConfig,
    DataConfig,
    DecisionConfig,
    ExperimentConfig,
    ModelConfig,
    Precision,
    TrainConfig,
    UnlearnConfig,
)
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Cohort, Split, Subset
from server.campaign.campaign import Campaign, run_campaign
from server.membership.federation_card import card_json
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import Trained, train
from server.rounds.unlearning.base import Past
from simulations.run.local_grid import LocalGrid

SEED = 5
CONFIG = ExperimentConfig(
    train=TrainConfig(rounds=4, local_epochs=2, batch=4, patience=5),
    unlearn=UnlearnConfig(method="exact"),
    campaign=CampaignConfig(retention_rounds=1),
    decision=DecisionConfig(bootstrap=50),
    seed=SEED,
)
TRAINING = {"north": 6, "south": 9}


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(save_image(tmp_path / "image", "resnet")),
        text_encoder="folder",
        text_folder=str(save_text(tmp_path / "text", "distilbert")),
        frozen="both",
        embedding=8,
    )
    return ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()


def own_card(card: ModelCard, folder: Path) -> ModelCard:
    """The card as a hospital has it: from the join bundle, with its own copies of the encoders."""
    folders = {"image": card.model.image_folder, "text": card.model.text_folder}
    own = OwnFolders(**{kind: shutil.copytree(path, folder / kind) for kind, path in folders.items()})
    bundled = ModelCard.model_validate_json(card_json(card))

    return with_own_folders(bundled, own, None, "experiment.json")


Hospitals = Callable[..., tuple[Federation, dict[str, Site]]]


@pytest.fixture
def hospitals(tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort]) -> Hospitals:
    """Two hospitals in a folder of their own; the patients in `never` were never theirs."""

    def make(
        folder: str, precision: Precision, never: frozenset[str] = frozenset()
    ) -> tuple[Federation, dict[str, Site]]:
        open_site.cache_clear()
        configs = {}
        sites = {}

        for node, (name, patients) in enumerate(TRAINING.items(), start=1):
            cohort = cohort_of(patients + 12, name=name, studies=2, seed=node, site=name)
            rest: list[Subset] = [subset for subset in Subset if subset is not Subset.TRAIN for _ in range(3)]
            split = dict(zip(cohort.patients, [Subset.TRAIN] * patients + rest, strict=True))
            cohort = Cohort(tuple(s for s in cohort.studies if s.patient not in never), cohort.classes)
            split = {patient: subset for patient, subset in split.items() if patient not in never}
            place = tmp_path / folder / name
            own = own_card(card, place.parent / f"encoders of {name}")
            write_site(place, cohort, Split(split), own, name=name, seed=0, device="cpu", cache=tmp_path / "cache")
            configs[node] = {"site-dir": str(place)}
            sites[name] = Site(place)

        federation = connect(LocalGrid(app, configs), len(configs))
        federation.downlink = Downlink(precision, card.frozen_names(), card.encoders)
        return federation, sites

    return make


def trained(federation: Federation, card: ModelCard, folder: Path) -> Trained:
    initial = card.build(1).state_dict()
    return train(federation, initial, CONFIG.train, card, seed=SEED, folder=folder, on_round=lambda _: None)


def forget(federation: Federation, card: ModelCard, first: Trained, folder: Path) -> Campaign:
    past = Past(card, card.build(1).state_dict(), first.rounds, SEED)
    return run_campaign(
        federation, first.state, CONFIG, journal=MemoryJournal(), folder=folder, on_round=lambda _: None, past=past
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_model_has_the_bits_of_a_federation_that_never_had_the_patients(
    precision: Precision, hospitals: Hospitals, card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = hospitals("with", precision)
    first = trained(federation, card, tmp_path / "first")
    one, other = sorted(sites["north"].patients(Subset.TRAIN))[1:3]
    away = sorted(sites["south"].patients(Subset.TRAIN))[0]
    sites["north"].revoke([one, other])
    sites["south"].revoke([away])
    done = forget(federation, card, first, tmp_path / "exact")

    never, _ = hospitals("without", precision, frozenset({one, other, away}))
    wanted = trained(never, card, tmp_path / "never")
    assert state_digest(done.state) == state_digest(wanted.state)
    assert state_digest(done.state) != state_digest(first.state)
    # Of the encoders nothing but their projections is in the model: the rest never saw a patient.
    assert {name.split(".")[1] for name in done.state if "encoder" in name} == {"project"}


def test_the_outcome_is_exact_for_a_single_patient_whatever_the_audit_of_one_can_show(
    hospitals: Hospitals, card: ModelCard, tmp_path: Path
) -> None:
    federation, sites = hospitals("with", "fp32")
    first = trained(federation, card, tmp_path / "first")
    sites["south"].revoke(sorted(sites["south"].patients(Subset.TRAIN))[:1])
    done = forget(federation, card, first, tmp_path / "exact")
    assert done.decision.outcome == "exact", done.decision.reasons
    assert done.decision.grounds.rung == "exact"
    assert {"image projection", "text projection"} < {*done.decision.grounds.trained_again}
    assert done.figures.membership["fused"].forget_patients == 1
    assert done.retain_cost.forward_units == 0


def test_a_second_revocation_is_as_exact_as_the_first(hospitals: Hospitals, card: ModelCard, tmp_path: Path) -> None:
    federation, sites = hospitals("with", "fp16")
    first = trained(federation, card, tmp_path / "first")
    gone = sorted(sites["south"].patients(Subset.TRAIN))[:2]
    for number, patient in enumerate(gone):
        sites["south"].revoke([patient])
        done = forget(federation, card, first, tmp_path / f"exact-{number}")

    never, _ = hospitals("without", "fp16", frozenset(gone))
    assert state_digest(done.state) == state_digest(trained(never, card, tmp_path / "never").state)


def test_without_frozen_encoders_it_is_refused(hospitals: Hospitals, card: ModelCard, tmp_path: Path) -> None:
    federation, sites = hospitals("with", "fp32")
    first = trained(federation, card, tmp_path / "first")
    sites["south"].revoke(sorted(sites["south"].patients(Subset.TRAIN))[:1])
    loose = card.model_copy(update={"model": card.model.model_copy(update={"frozen": "image"})})
    with pytest.raises(ConfigError, match="needs encoders that no patient was in"):
        forget(federation, loose, first, tmp_path / "exact")
