"""The package that a notebook imports: simulate, load, predict, audit, unlearn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fedforget as ff
from common.errors import CheckpointError, CohortError, ConfigError
from common.learning.model.checkpoint import ModelCard, save_checkpoint

CLASSES = 2


class Toy(torch.nn.Module):
    """A model of somebody else's: it only has to take images, tokens and mask, and return `Outputs`."""

    def __init__(self) -> None:
        super().__init__()
        self.image = torch.nn.Linear(64, 8)
        self.text = torch.nn.Embedding(20, 8)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(8, CLASSES) for _ in range(3))

    def forward(self, images: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> ff.Outputs:
        image = self.image(images.flatten(1))
        text = (self.text(tokens) * mask[..., None]).mean(dim=1)
        embeddings = torch.stack([image, text, image + text])
        logits = torch.stack([head(one) for head, one in zip(self.heads, embeddings, strict=True)])

        return ff.Outputs(embeddings, logits)


def patients(count: int, seed: int, *, shift: float = 0.0) -> ff.Patients:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.random((count, 8, 8)) * 0.5 + labels[:, None, None] * shift
    tokens = rng.integers(0, 20, (count, 5))

    return ff.Patients(images.clip(0, 1), tokens, np.ones_like(tokens), labels)


def fitted(members: ff.Patients) -> Toy:
    """A model that knows `members` by heart."""
    torch.manual_seed(0)
    model = Toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    batch = members.batch(np.arange(len(members)), torch.device("cpu"))

    for _ in range(150):
        optimizer.zero_grad()
        logits = model(batch.images, batch.tokens, batch.mask).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, CLASSES), batch.labels.repeat(3))
        torch.autograd.backward(loss)
        optimizer.step()

    return model


@pytest.fixture(scope="module")
def members() -> ff.Patients:
    return patients(60, seed=1)


@pytest.fixture(scope="module")
def model(members: ff.Patients) -> Toy:
    return fitted(members)


def test_an_audit_sees_a_model_that_remembers(model: Toy, members: ff.Patients) -> None:
    audit = ff.audit(model, members, patients(120, seed=2))

    assert audit.finding == "refuted"
    assert audit.branches[2].auc is not None
    assert audit.branches[2].auc > 0.8


def test_an_audit_of_two_groups_that_the_model_never_saw_shows_no_memory(model: Toy) -> None:
    audit = ff.audit(model, patients(400, seed=3), patients(400, seed=4))

    assert audit.finding == "shown"
    assert [branch.branch for branch in audit.branches] == ["image", "text", "fused"]


def test_a_few_patients_show_nothing(model: Toy) -> None:
    assert ff.audit(model, patients(4, seed=5), patients(400, seed=4)).finding == "not shown"


@pytest.mark.parametrize("margin", [0.0, 0.5, -1.0])
def test_a_margin_that_means_nothing_is_refused(model: Toy, margin: float) -> None:
    with pytest.raises(ConfigError, match="margin"):
        ff.audit(model, patients(5, seed=5), patients(5, seed=6), margin=margin)


def test_unlearning_moves_the_forgotten_towards_the_never_seen_and_leaves_the_given_model_alone(
    model: Toy, members: ff.Patients
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forget = _some(members, range(20))
    settings = {"noise": "image", "passes": 60, "lr": 1e-2}

    outcome = ff.unlearn(
        model, forget, retain=_some(members, range(20, 60)), calibration=patients(80, seed=7), settings=settings
    )

    unseen = patients(120, seed=2)
    remembered = ff.audit(model, forget, unseen).branches[2].auc
    forgotten = ff.audit(outcome.model, forget, unseen).branches[2].auc
    assert remembered is not None
    assert forgotten is not None
    assert abs(forgotten - 0.5) < abs(remembered - 0.5) - 0.1
    assert outcome.cost > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_weights(model: Toy, members: ff.Patients) -> None:
    def run() -> Toy:
        return ff.unlearn(
            model,
            _some(members, range(5)),
            retain=_some(members, range(5, 60)),
            calibration=patients(30, seed=8),
            settings={"noise": "image", "passes": 2},
            seed=3,
        ).model

    left = run().state_dict()
    right = run().state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_every_method_is_named_and_an_unknown_one_is_refused(model: Toy, members: ff.Patients) -> None:
    assert "forget_mi_calibrated" in ff.methods()
    with pytest.raises(ConfigError, match="unknown method"):
        ff.unlearn(model, members, retain=members, calibration=members, method="guess", settings={"noise": "image"})


def test_noisy_reports_without_texts_are_refused_before_anything_is_computed(model: Toy, members: ff.Patients) -> None:
    with pytest.raises(ConfigError, match="noisy reports need texts"):
        ff.unlearn(model, members, retain=members, calibration=members, settings={"noise": "both"})


def test_patients_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(CohortError, match="differ in length"):
        ff.Patients(np.zeros((3, 4, 4)), np.zeros((2, 5), int), np.zeros((2, 5), int), [0, 1])


@pytest.mark.parametrize("images", [np.full((1, 4, 4), 200.0), np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 4), int)])
def test_images_that_are_no_greyscale_are_refused(images: np.ndarray) -> None:
    with pytest.raises(CohortError):
        ff.Patients(images, np.zeros((1, 5), int), np.zeros((1, 5), int), [0])


def test_a_saved_model_is_loaded_and_predicts_one_study(tmp_path: Path, card: ModelCard) -> None:
    save_checkpoint(tmp_path, card.build(seed=1).state_dict(), card)

    prediction = ff.load(tmp_path).predict(np.zeros((50, 40), np.uint8), "clear lungs")

    assert prediction.label in card.classes
    assert set(prediction.branches) == {"image", "text", "fused"}
    assert sum(prediction.probabilities.values()) == pytest.approx(1.0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        ff.load(tmp_path)


def test_a_small_federation_is_simulated_and_read_again(tmp_path: Path) -> None:
    settings = {
        "engine": "inprocess",
        "hospitals.sites": 2,
        "hospitals.patients": 20,
        "hospitals.image_size": 32,
        "data.image_size": 32,
        "train.rounds": 1,
        "retrain": False,
    }
    stages: list[tuple[str, int, int]] = []

    run = ff.simulate(
        out=tmp_path, forget=2, seed=5, settings=settings, on_progress=lambda *stage: stages.append(stage)
    )

    again = ff.Simulation.open(tmp_path)
    assert again.result == run.result
    assert {"original", "naive", "unlearned"} <= {stage for stage, _, _ in stages}
    assert len(run.table()) == 3
    assert run.report.read_text().startswith("<!doctype html>") or "<html" in run.report.read_text()
    assert run.model("unlearned").predict(np.zeros((32, 32), np.uint8), "").label in run.model().classes


def _some(everyone: ff.Patients, rows: range) -> ff.Patients:
    picked = list(rows)
    return ff.Patients(everyone.images[picked], everyone.tokens[picked], everyone.mask[picked], everyone.labels[picked])
