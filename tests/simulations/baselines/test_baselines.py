"""Simple classifiers beside the model: they learn what there is to learn, and find nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.learning.records import Study
from simulations.baseline_result import BaselineResult, Training
from simulations.reporting.answer import worth
from simulations.result import Result
from simulations.run.baselines.classifiers import Labelled, federated, pooled
from simulations.run.baselines.features import tf_idf
from simulations.run.baselines.output import markdown, rows

CLASSES = 3


def studies(reports: list[str]) -> list[Study]:
    return [Study(f"p{at}", f"s{at}", Path(), report, 0) for at, report in enumerate(reports)]


def part(seed: int, count: int = 60, *, classes: tuple[int, ...] = (0, 1, 2), shift: float = 2.0) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count)
    features = rng.normal(size=(count, 5))
    features[np.arange(count), labels] += shift

    return Labelled(features, labels.astype(np.int64))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def test_rare_words_weigh_more_than_words_that_every_report_has() -> None:
    features = tf_idf([studies(["heart normal", "heart large", "heart oedema"]), studies(["heart normal"])])

    row = features(studies(["heart oedema"])).toarray().ravel()
    common_word = features(studies(["heart"])).toarray().ravel()

    at_heart = int(common_word.argmax())
    others = np.delete(row, at_heart)
    assert row[at_heart] > 0
    assert others.max() > row[at_heart]
    assert np.linalg.norm(row) == pytest.approx(1.0)


def test_the_weights_of_words_do_not_depend_on_how_reports_are_dealt_to_hospitals() -> None:
    reports = studies(["heart normal", "lungs clear", "small effusion", "heart large"])

    together = tf_idf([reports])(reports)
    apart = tf_idf([reports[:1], reports[1:], []])(reports)

    assert np.allclose(together.toarray(), apart.toarray())


def test_federated_averaging_comes_near_to_pooled_training() -> None:
    training = [part(1), part(2), part(3)]
    everybody = Labelled(
        np.vstack([one.features for one in training]), np.concatenate([one.labels for one in training])
    )
    unseen = part(9, 600)

    central = accuracy(pooled(everybody, CLASSES, 1.0)(unseen.features), unseen.labels)
    averaged = accuracy(federated(training, CLASSES, 1.0, seed=0)(unseen.features), unseen.labels)

    assert central > 0.8
    assert averaged > central - 0.05


def test_a_hospital_that_lacks_a_class_does_not_stop_the_others_from_learning_it() -> None:
    training = [part(1, classes=(0, 1)), part(2), Labelled(np.zeros((0, 5)), np.zeros(0, np.int64))]
    unseen = part(9, 600)

    assert accuracy(federated(training, CLASSES, 1.0, seed=0)(unseen.features), unseen.labels) > 0.7


def test_a_class_that_was_never_trained_on_has_probability_zero() -> None:
    probabilities = pooled(part(1, classes=(0, 2)), CLASSES, 1.0)(part(9).features)

    assert np.all(probabilities[:, 1] == 0)
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_one_class_alone_is_called_everywhere() -> None:
    assert np.all(pooled(part(1, classes=(1,)), CLASSES, 1.0)(part(9).features)[:, 1] == 1)


def baseline(training: Training, auc: float | None, name: str = "TF-IDF") -> BaselineResult:
    return BaselineResult(name=name, branch="text", training=training, auc=auc, auc_across=auc, patients=20)


def test_a_table_has_means_over_seeds_with_an_interval() -> None:
    table = rows([[baseline("pooled", 0.8)], [baseline("pooled", 0.9)], [baseline("pooled", None)]])

    assert len(table) == 1
    assert table[0].auc == pytest.approx(0.85)
    assert table[0].half == pytest.approx(12.706 * 0.0707107 / 2**0.5, rel=1e-3)
    assert table[0].seeds == 2
    page = markdown(table, title="x", command="fedforget-sim baselines", patients=20)
    assert "| TF-IDF | pooled | 0.850 ± " in page


def test_the_report_says_when_a_bag_of_words_is_the_better_model(make_result: Callable[..., Result]) -> None:
    result = make_result()
    own = result.models["original"].test.auc
    assert own is not None

    better = result.model_copy(update={"baselines": [baseline("pooled", 0.99), baseline("federated", own + 0.05)]})
    worse = result.model_copy(update={"baselines": [baseline("federated", own - 0.05)]})

    assert "the better choice" in (worth(better) or "")
    assert "the better choice" not in (worth(worse) or "")
    assert worth(result) is None
