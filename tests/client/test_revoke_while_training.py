"""A revocation that comes while a training runs: no later batch holds the patient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from client.cohort.site import Site
from common.errors import CohortError
from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.learning.training import score
from common.protocol.messages import TrainRequest, UnlearnRequest

TRAINING = TrainRequest(config=TrainConfig(batch=2), epochs=6, round=0, seed=0, reference=None)


class Seen:
    """Patients of every batch that was made, in order.

    The site `at` takes in a revocation before the batch of number `when` is handed over: of the patients `revoke`, or
    of one who was in the first batch.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[set[str]] = []
        self.at: Site | None = None
        self.when = 0
        self.revoke: list[str] = []
        real = StudyTensors.shuffled

        def shuffled(
            studies: StudyTensors, size: int, device: torch.device, rng: np.random.Generator
        ) -> Iterator[Batch]:
            for batch in real(studies, size, device, rng):
                self.batches.append({studies.studies[row].patient for row in batch.rows})
                if self.at is not None and len(self.batches) == self.when:
                    self.revoke = self.revoke or [min(self.batches[0])]
                    self.at.revoke(self.revoke)

                yield batch

        monkeypatch.setattr(StudyTensors, "shuffled", shuffled)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def test_no_later_batch_of_a_training_that_runs_holds_the_patient(
    site_folder: Path, card: ModelCard, seen: Seen
) -> None:
    # Another Site, as another process would have it, takes in the revocation.
    site = Site(site_folder)
    seen.at = Site(site_folder)
    seen.when = 4
    model, _ = site.train(card.build().state_dict(), TRAINING)
    (patient,) = seen.revoke
    assert not any(patient in batch for batch in seen.batches[4:])
    assert set().union(*seen.batches[4:]) == site.patients(Subset.TRAIN)
    assert all(bool(torch.isfinite(t).all()) for t in model.state_dict().values())


def test_no_later_retain_batch_of_an_unlearning_that_runs_holds_the_patient(
    site_folder: Path, card: ModelCard, seen: Seen
) -> None:
    site = Site(site_folder)
    site.revoke([min(site.patients(Subset.TRAIN))])
    seen.at = Site(site_folder)
    seen.when = 2
    config = UnlearnConfig(passes=12, retain_batch=2, batch=1, tolerance=0.0)
    site.unlearn(card.build().state_dict(), UnlearnRequest(config=config, seed=0))
    (patient,) = seen.revoke
    assert not any(patient in batch for batch in seen.batches[2:])
    assert len(seen.batches) > 6


def test_a_training_ends_when_everybody_has_revoked(site_folder: Path, card: ModelCard, seen: Seen) -> None:
    site = Site(site_folder)
    seen.at, seen.when, seen.revoke = Site(site_folder), 4, sorted(site.patients(Subset.TRAIN))
    with pytest.raises(CohortError, match="nobody is left"):
        site.train(card.build().state_dict(), TRAINING)
    assert len(seen.batches) == 4


def test_an_unlearning_ends_when_nobody_is_left_to_retain(site_folder: Path, card: ModelCard, seen: Seen) -> None:
    site = Site(site_folder)
    first, *others = sorted(site.patients(Subset.TRAIN))
    site.revoke([first])
    seen.at = Site(site_folder)
    seen.when = 3
    seen.revoke = others
    config = UnlearnConfig(passes=40, retain_batch=2, tolerance=0.0)
    with pytest.raises(CohortError, match="nobody is left"):
        site.unlearn(card.build().state_dict(), UnlearnRequest(config=config, seed=0))
    assert len(seen.batches) == 3


def test_no_later_batch_of_an_evaluation_that_runs_holds_the_patient(site_folder: Path, card: ModelCard) -> None:
    site = Site(site_folder)
    other = Site(site_folder)
    studies = site._data.to_score(Subset.TRAIN)
    assert studies is not None
    batches = studies.to_score(2, torch.device("cpu"))
    first = {studies.studies[row].patient for row in next(batches).rows}
    gone = sorted(site.patients(Subset.TRAIN) - first)[:2]
    other.revoke(gone)
    later = {studies.studies[row].patient for batch in batches for row in batch.rows}
    assert later
    assert not later & set(gone)
    found = score(card.build(), studies, batch=2)
    assert len(found) == sum(study.patient not in gone for study in studies.studies)
    other.revoke(sorted(site.patients(Subset.TRAIN)))
    assert len(score(card.build(), studies)) == 0
    assert site.scores(card.build().state_dict(), Subset.TRAIN) is None
