"""The training loss: cross-entropy on three branches and a ranking loss over image-text pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.learning.model.image_text import Outputs


def ranking_loss(image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
    """Matched pairs must score higher than mismatched ones, by a margin that grows with the labels' distance.

    For scores `s_ij = image_i . text_j / sqrt(embedding)` the mean over i != j of `max(0, s_ij - s_ii + m_ij)` and of
    the same with `s_ji`, with `m_ij = max(.5, |y_i - y_j|)` (Chauhan et al. 2020, arXiv 2008.09884, eq. 2). Zero for
    one pair.

    Args:
        image: `[batch, embedding]`.
        text: `[batch, embedding]`.
        labels: `[batch]` ordinal class indices.
    """
    batch = len(labels)
    if batch < 2:
        # Zero, but still connected to the graph, so that `backward` works.
        return image.sum() * 0.0
    scores = image @ text.T / image.shape[1] ** 0.5
    pair_scores = scores.diagonal()
    margin = (labels[:, None] - labels[None, :]).abs().to(scores.dtype).clamp_min(0.5)
    # A pair is not compared with itself.
    other = ~torch.eye(batch, dtype=torch.bool, device=scores.device)
    by_image = (scores - pair_scores[:, None] + margin).clamp_min(0.0)
    by_text = (scores - pair_scores[None, :] + margin).clamp_min(0.0)
    loss: Tensor = (by_image[other].mean() + by_text[other].mean()) / 2

    return loss


def task_loss(outputs: Outputs, labels: Tensor, ranking_weight: float) -> Tensor:
    """Sum of the branches' cross-entropies plus `ranking_weight` times the ranking loss; a scalar."""
    classes = outputs.logits.shape[2]
    # A mean over the three branches' rows times three is the sum of the branches' means.
    entropy: Tensor = cross_entropy(outputs.logits.reshape(-1, classes), labels.repeat(3)) * 3.0
    if ranking_weight == 0.0:
        return entropy
    return entropy + ranking_weight * ranking_loss(outputs.embeddings[0], outputs.embeddings[1], labels)
