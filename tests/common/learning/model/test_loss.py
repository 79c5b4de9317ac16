from __future__ import annotations

import math

import pytest
import torch

from common.learning.model.image_text import Outputs
from common.learning.model.loss import ranking_loss, task_loss

IMAGE = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0]])
TEXT = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])


def test_the_ranking_loss_of_three_pairs_is_the_one_worked_by_hand() -> None:
    # Scores over sqrt(4): [[1, 1, 0], [0, 1, 0], [0, 0, 2]]; margins .5 between the first two labels, 3 to the third.
    # Against s_ii: .5 + 2 + 0 + 2 + 1 + 1; against s_jj: .5 + 1 + 0 + 1 + 2 + 2; six pairs each.
    assert float(ranking_loss(IMAGE, TEXT, torch.tensor([0, 0, 3]))) == pytest.approx((6.5 / 6 + 6.5 / 6) / 2)


def test_the_margin_grows_with_the_distance_of_labels() -> None:
    # As above, with margins 1, 3 and 2: 1 + 2 + 0 + 1 + 1 + 0, and 1 + 1 + 0 + 0 + 2 + 1.
    assert float(ranking_loss(IMAGE, TEXT, torch.tensor([0, 1, 3]))) == pytest.approx(5 / 6)


def test_one_pair_has_no_ranking_loss_but_a_gradient() -> None:
    image = torch.ones(1, 4, requires_grad=True)
    loss = ranking_loss(image, torch.ones(1, 4), torch.tensor([1]))
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert image.grad is not None
    assert float(image.grad.abs().sum()) == 0.0


def test_pairs_far_enough_apart_cost_nothing() -> None:
    assert float(ranking_loss(10 * torch.eye(3), torch.eye(3), torch.tensor([0, 1, 2]))) == 0.0


def test_the_task_loss_sums_the_branches_and_weighs_the_ranking() -> None:
    logits = torch.zeros(3, 3, 4)
    logits[1, :, 0] = 1.0
    outputs = Outputs(torch.stack([IMAGE, TEXT, TEXT]), logits)
    labels = torch.tensor([0, 0, 3])
    even = math.log(4)
    text = math.log(math.e + 3) - 2 / 3
    assert float(task_loss(outputs, labels, 0.0)) == pytest.approx(2 * even + text, rel=1e-6)
    assert float(task_loss(outputs, labels, 0.5)) == pytest.approx(2 * even + text + 0.5 * 6.5 / 6, rel=1e-6)
