"""Scores by fold models: rows of the patient in the site's own database, and gone with the patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from client.cohort.scores.fold_scores import FoldScores
from client.cohort.site import Site
from client.cohort.site_data import SiteData
from client.database import migrate, opened
from client.evidence.replayable import Replayable
from common.errors import RefusedError
from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.folds.margins import NO_FOLD, OutOfFold
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.learning.training import Fit
from common.protocol.messages import EvaluateRequest, FoldModel, FoldModels, TrainRequest, UnlearnRequest
from common.protocol.several_models import joined, parted

MODELS = FoldModels(lineage="campaign-1", models=tuple(FoldModel(family="targets", number=n, of=3) for n in range(3)))
TRAINING = TrainRequest(config=TrainConfig(batch=4, lr=1e-2), epochs=1, round=0, seed=0, folds=MODELS)
SCORING = EvaluateRequest(purpose="folds", seed=0, folds=MODELS)


@pytest.fixture(params=["real", "simulated"])
def site(site_folder: Path, request: pytest.FixtureRequest) -> Site:
    """With a database, as a real one has, and without one, as a simulated one."""
    if request.param == "real":
        with opened(site_folder / "site.db") as engine:
            migrate(engine)
    site = Site(site_folder)
    # The secret of pseudonyms is made with the first revocation, or at enrolment.
    site.revoke(["MRN-0815-MUELLER-12"])
    return site


def weights(card: ModelCard) -> Mapping[str, Tensor]:
    return joined({model.key: card.build(model.number).state_dict() for model in MODELS.models})


def rows(site: Site, training: tuple[str, ...] = ()) -> OutOfFold | None:
    data = SiteData(site.folder)
    training = training or site.cohort.patients[:6]
    calibration = site.patients(Subset.CALIBRATION)
    return data.fold_scores.read("targets", training, [p for p in site.cohort.patients if p in calibration])


def test_each_patient_is_scored_by_the_one_model_that_never_saw_them(site: Site, card: ModelCard) -> None:
    before = weights(card)
    after, reply = site.train_folds(before, TRAINING)
    assert (reply.received, reply.loss > 0) == (None, True)
    assert rows(site) is None
    site.evaluate(after, SCORING)
    scores = rows(site)
    assert scores is not None
    assert sorted(scores.fold.tolist()) == [0, 0, 1, 1, 2, 2]
    assert scores.controls.shape == (3, 3, 2)
    assert scores.known().all()

    for number, state in enumerate(parted(after, MODELS.keys).values()):
        everyone = site.scores(state, Subset.TRAIN)
        assert everyone is not None
        of_fold = scores.fold == number
        assert np.allclose(everyone.margin[:, of_fold], scores.margins[:, of_fold])
        calibration = site.scores(state, Subset.CALIBRATION)
        assert calibration is not None
        assert np.allclose(calibration.margin, scores.controls[number])


def test_no_fold_model_is_trained_on_its_own_fold(site: Site, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[frozenset[str]] = []

    def fit(_model: object, studies: StudyTensors, *_: object, **__: object) -> Fit:
        seen.append(frozenset(study.patient for study in studies.studies))
        return Fit(0.0, 0.0)

    monkeypatch.setattr("client.cohort.scores.site_folds.fit", fit)
    site.train_folds(weights(card), TRAINING)
    everyone = site.patients(Subset.TRAIN)
    left_out = [everyone - trained for trained in seen]
    assert [len(fold) for fold in left_out] == [2, 2, 2]
    assert frozenset().union(*left_out) == everyone


def test_folds_stay_as_they_were_dealt_when_patients_revoke_in_between(site: Site, card: ModelCard) -> None:
    after, _ = site.train_folds(weights(card), TRAINING)
    gone = site.cohort.patients[0]
    site.revoke([gone])
    again, _ = site.train_folds(after, TRAINING.model_copy(update={"round": 1}))
    site.evaluate(again, SCORING)
    scores = rows(site)
    assert scores is not None
    # Who has revoked is scored no more, and nobody else changes places.
    assert scores.fold.tolist().count(NO_FOLD) == 1
    assert scores.fold[0] == NO_FOLD
    assert sorted(scores.fold[1:].tolist()) in ([0, 0, 1, 1, 2], [0, 1, 1, 2, 2], [0, 0, 1, 2, 2])


def test_a_new_lineage_replaces_the_scores_of_the_one_before(site: Site, card: ModelCard) -> None:
    state = weights(card)
    site.evaluate(state, SCORING)
    old = rows(site)
    renewed = MODELS.model_copy(update={"lineage": "campaign-9"})
    site.train_folds(state, TRAINING.model_copy(update={"folds": renewed}))
    kept = rows(site)
    assert old is not None
    assert kept is not None
    # Until the new models are scored the old scores stand.
    assert np.array_equal(old.margins, kept.margins)
    site.evaluate(state, SCORING.model_copy(update={"folds": renewed}))
    new = rows(site)
    assert new is not None
    assert sorted(new.fold.tolist()) == [0, 0, 1, 1, 2, 2]
    assert not np.array_equal(old.margins, new.margins)


def test_purged_patients_leave_nothing_in_the_file(site: Site, card: ModelCard) -> None:
    site.evaluate(weights(card), SCORING)
    patient, other = site.cohort.patients[:2]
    data = SiteData(site.folder)
    training = site.cohort.patients[:6]
    file = next(path for path in (site.folder / "site.db", site.folder / "folds.db") if path.exists())
    name = data.fold_scores.name_of(patient).encode()
    assert name in file.read_bytes()
    counts = site.purge_patients([patient, other])
    assert counts["fold_scores"] == 2
    wal = file.with_name(f"{file.name}-wal")
    assert name not in file.read_bytes() + (wal.read_bytes() if wal.exists() else b"")
    assert site.purge_patients([patient, other])["fold_scores"] == 0
    scores = rows(site, training)
    assert scores is not None
    assert scores.fold[:2].tolist() == [NO_FOLD, NO_FOLD]
    # Of a calibration patient every model's row goes.
    never_seen, *_ = sorted(site.patients(Subset.CALIBRATION))
    assert site.purge_patients([never_seen])["fold_scores"] == 3


def test_nothing_of_the_fold_models_weights_stays_at_the_site(site: Site, card: ModelCard) -> None:
    after, _ = site.train_folds(weights(card), TRAINING)
    site.evaluate(after, SCORING)
    starts = [tensor.contiguous().numpy().tobytes()[:64] for tensor in after.values()]
    # Zeros are in every file.
    needles = [start for start in starts if len(set(start)) > 32]
    assert len(needles) > 3 * len(MODELS.models)
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        held = path.read_bytes()
        assert not any(needle in held for needle in needles), path.name


def test_reference_models_of_earlier_versions_are_refused(site: Site, card: ModelCard) -> None:
    with pytest.raises(RefusedError, match="reference models are no longer trained"):
        site.train(card.build().state_dict(), TRAINING.model_copy(update={"folds": None, "reference": 0}))
    with pytest.raises(RefusedError, match="reference models are no longer trained"):
        site.evaluate(card.build().state_dict(), EvaluateRequest(purpose="reference", seed=0, reference=0))


def test_a_site_without_scores_reads_none(site: Site) -> None:
    scores = SiteData(site.folder).fold_scores
    assert isinstance(scores, FoldScores)
    assert scores.read("audit", ["nobody"], []) is None
    assert scores.purge(["nobody"]) == 0


def test_a_replay_record_holds_what_the_targets_came_from_and_commits_to_it() -> None:
    plain = Replayable(
        campaign=1,
        request=UnlearnRequest(config=UnlearnConfig(), seed=0),
        received="",
        precision="fp32",
        device="cpu",
        salt="00" * 32,
        forget=("a", "b"),
        branches=((True, True, True),) * 2,
        retain=("c",),
        calibration=("d",),
    )
    assert plain.standings_then() is None
    rows = ((0.1, None),) * 3 + ((-1 / 3, None),) * 3
    record = Replayable.model_validate_json(plain.model_copy(update={"standings": rows}).model_dump_json())
    standings = record.standings_then()
    assert standings is not None
    assert standings.known().tolist() == [True, False]
    assert standings.scaled[:, 0].tolist() == [-1 / 3] * 3
    assert record.cohort != plain.cohort
    other = record.model_copy(update={"standings": ((0.2, None),) * 6})
    assert other.cohort != record.cohort
