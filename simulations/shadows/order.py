"""Which shadow models a command trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import ConfigError
from common.learning.device import derive_seed
from server.rounds.unlearning.methods import campaign_method

Patients = dict[str, tuple[str, ...]]
"""Of each site."""


@dataclass(frozen=True, slots=True)
class Order:
    """Which shadows to train.

    Attributes:
        count: how many there are in all, an even number: each patient is in half of them.
        methods: unlearning methods to run on each, for U-LiRA; see `parse_variant`.
        share: of these, `(0, 1)` is all, `(1, 3)` every third from the second: for several processes or machines.
    """

    count: int
    methods: tuple[str, ...]
    share: tuple[int, int] = (0, 1)

    def numbers(self) -> range:
        """Of the shadows to train here.

        Raises:
            ConfigError: the number is odd, or a method or share is invalid.
        """
        first, of = self.share
        # Two shadows together share out the patients.
        if self.count < 2 or self.count % 2:
            raise ConfigError(f"{self.count} shadows", where="--count", remedy="use an even number, 2 or more")
        if not 0 <= first < of:
            raise ConfigError(f"share {first + 1} of {of}", where="--share", remedy="use 1/2, 2/2 and so on")
        for name in self.methods:
            campaign_method(parse_variant(name)[0])
        return range(first, self.count, of)


def parse_share(text: str) -> tuple[int, int]:
    """Parse a share: `2/3`, the second of three, gives `(1, 3)`.

    Raises:
        ConfigError: the text has another form.
    """
    first, _, of = text.partition("/")
    if not (first.isdigit() and of.isdigit()):
        raise ConfigError(f"invalid share {text!r}", where="--share", remedy="use 1/2, 2/2 and so on")
    return int(first) - 1, int(of)


def parse_variant(text: str) -> tuple[str, list[str]]:
    """A method and assignments to its settings: `name@passes=20;tolerance=0.05` changes two of `unlearn`."""
    method, _, settings = text.partition("@")
    return method, [f"unlearn.{one.strip()}" for one in settings.split(";") if one.strip()]


def halves(pool: Sequence[str], number: int, seed: int) -> frozenset[str]:
    """Patients of shadow `number`: a random half; the next (odd) number has the other half."""
    # Shadows 2k and 2k + 1 share a permutation and take its two halves.
    order = np.random.default_rng(derive_seed(seed, "shadow", number // 2)).permutation(len(pool))
    half = order[: len(pool) // 2] if number % 2 == 0 else order[len(pool) // 2 :]
    return frozenset(pool[at] for at in half)
