"""The share of never-seen patients with a higher loss, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.evaluation.membership import membership
from common.learning.evaluation.scores import Scores
from simulations.stream.auditor import member_ranks


def scores(margins: list[float], labels: list[int]) -> Scores:
    """Logits of two classes whose true one is ahead by a margin: the larger, the lower the loss."""
    logits = np.zeros((3, len(labels), 2))
    logits[:, np.arange(len(labels)), labels] = margins
    return Scores(logits, np.array(labels), np.arange(len(labels)))


def test_ranks_by_hand() -> None:
    found = member_ranks(scores([2.0, 0.0, 1.0], [0, 0, 0]), scores([1.0, -1.0], [0, 0]))
    assert found.tolist() == [[1.0, 0.5, 0.75]] * 3


def test_their_mean_is_the_loss_auc_of_the_evaluator() -> None:
    rng = np.random.default_rng(0)
    ours = scores(list(rng.normal(1, 1, 20)), list(rng.integers(0, 2, 20)))
    theirs = scores(list(rng.normal(0, 1, 30)), list(rng.integers(0, 2, 30)))
    wanted = membership(ours, theirs, 2, draws=50, rng=rng).auc
    assert member_ranks(ours, theirs)[2].mean() == pytest.approx(wanted)


def test_a_patient_whom_no_never_seen_one_resembles_is_left_out() -> None:
    found = member_ranks(scores([2.0, 5.0], [0, 1]), scores([1.0, 3.0], [0, 0]))
    assert found[2, 0] == 0.5
    assert np.isnan(found[:, 1]).all()
