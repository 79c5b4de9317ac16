"""Noise on forget pairs, as Forget-MI feeds them to the frozen model (arXiv 2506.23145). Pure and seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

KEY_WORDS = frozenset(
    [
        "acute",
        "bilateral",
        "cardiomegaly",
        "clear",
        "collapse",
        "congestion",
        "consolidation",
        "consolidations",
        "cough",
        "covid",
        "covid-19",
        "dyspnea",
        "dyspnoea",
        "edema",
        "effusion",
        "effusions",
        "failure",
        "fever",
        "ground-glass",
        "infiltrate",
        "infiltrates",
        "interstitial",
        "kerley",
        "mild",
        "moderate",
        "normal",
        "oedema",
        "opacities",
        "opacity",
        "overload",
        "perihilar",
        "pleural",
        "pneumonia",
        "pneumothorax",
        "severe",
        "tuberculosis",
        "unremarkable",
        "vascular",
        "venous",
    ]
)
"""Words that carry a finding or its degree, compared in lower case and without punctuation."""

MOST_KEY_WORDS = 2
CHARACTER_RATE = 0.5
"""Share of words that get a character edit at level 1."""
WORD_RATE = 0.25
"""Share of words that are swapped, deleted or doubled at level 1."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noisy_images(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to `[batch, 1, height, width]` in [0, 1] and clip; `std` 0 gives the very same tensor."""
    if std == 0:
        return images
    # In float32 on the generator's device: the same noise for images of any precision.
    noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return (images + std * noise.to(images)).clamp(0.0, 1.0)


def noisy_report(report: str, level: float, rng: np.random.Generator, key_words: frozenset[str] = KEY_WORDS) -> str:
    """Damage a report: key words lost, words swapped, deleted or doubled, characters edited.

    A word gets a word edit with probability `level * WORD_RATE` and a character edit with `level * CHARACTER_RATE`;
    of at most two key words each is lost with probability `level`. `level` 0 gives the very same text, and no level
    removes the last word.
    """
    if level == 0:
        return report
    words = report.split()
    words = _without_key_words(words, level, rng, key_words)
    words = _word_edits(words, level * WORD_RATE, rng)

    return " ".join(_character_edit(word, rng) if rng.random() < level * CHARACTER_RATE else word for word in words)


def _without_key_words(
    words: list[str], level: float, rng: np.random.Generator, key_words: frozenset[str]
) -> list[str]:
    at = [i for i, word in enumerate(words) if word.strip(".,;:()").lower() in key_words]
    count = min(int(rng.binomial(MOST_KEY_WORDS, level)), len(at), len(words) - 1)
    if count <= 0:
        return words
    removals = {int(i) for i in rng.choice(at, size=count, replace=False)}

    return [word for i, word in enumerate(words) if i not in removals]


def _word_edits(words: list[str], rate: float, rng: np.random.Generator) -> list[str]:
    result = list(words)
    for word in words:
        if rng.random() >= rate or word not in result:
            continue
        at = result.index(word)
        kind = int(rng.integers(3))

        if kind == 0 and at + 1 < len(result):
            result[at], result[at + 1] = result[at + 1], result[at]
        elif kind == 1 and len(result) > 1:
            del result[at]
        else:
            result.insert(at, word)

    return result


def _character_edit(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(len(word)))
    letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
    edits: tuple[Callable[[], str], ...] = (
        lambda: word[: at + 1] + letter + word[at + 1 :],
        lambda: word[:at] + letter + word[at + 1 :],
        lambda: word[:at] + word[at + 1 :],
        lambda: word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
    )
    # Deleting from, or swapping within, a single character would lose the word.
    return edits[int(rng.integers(len(edits) if len(word) > 1 else 2))]()
