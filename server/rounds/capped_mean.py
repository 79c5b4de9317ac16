"""A mean in which no site has more than its largest share, also when others did not answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from server.rounds.aggregation import RunningMean, shares

FEWEST = 2
"""Sites whose weights a round needs, if there are more than two: what one sends alone is no average."""
_ROUNDING = 1e-9
_TOGETHER = ""


def fewest(registered: Collection[str]) -> int:
    """How many sites a round needs. Of two, one may go on alone, or its patients would wait for the other one."""
    return FEWEST if len(registered) > FEWEST else 1


class CappedMean:
    """Sums of weights by groups, so that shares can still be capped once it is known who answered.

    The largest share among those who answer grows with each who does not. A site that could exceed `most` in this way
    has a sum of its own; all others share one. Of equal sites none can, and there is a single sum.
    """

    def __init__(
        self, registered: Mapping[str, float], most: float, needed: float, without: frozenset[str] = frozenset()
    ) -> None:
        """`registered` are shares that add up to 1, of which a round needs at least `needed`."""
        self._registered = registered
        self._most = most
        self._without = without
        self._apart = frozenset(name for name in registered if self._largest(name, needed) > most + _ROUNDING)
        self._sums: dict[str, RunningMean] = {}

    def of(self, site: str) -> RunningMean:
        """The sum to which a site's weights are added, with its registered share."""
        group = site if site in self._apart else _TOGETHER
        return self._sums.setdefault(group, RunningMean(self._without))

    def means(self, like: Mapping[str, Tensor], taken: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Names and means over the weights of the sites in `taken`, one at a time, in the dtypes of `like`.

        Raises:
            WireError: nothing was added.
        """
        # The caps hold for those who answered: without the missing sites' shares, the largest one would exceed `most`.
        weights = shares({name: self._registered[name] for name in taken}, self._most)
        sites_with_answers = {name if name in self._apart else _TOGETHER for name in taken}
        groups = {name: mean for name, mean in self._sums.items() if name in sites_with_answers}
        if len(groups) < 2:
            yield from next(iter(groups.values()), RunningMean()).means(like)
            return
        # Each sum is a mean already, and weighs by the capped shares of the sites in it.
        of_group = {name: weights[name] for name in groups if name != _TOGETHER}
        of_group[_TOGETHER] = sum(weight for name, weight in weights.items() if name not in self._apart)
        # Means are combined in double precision, and rounded to the model's dtype once.
        precise = {name: torch.empty(0, dtype=torch.float64) for name in like}
        parts = [(of_group[name], mean.means(precise)) for name, mean in groups.items()]

        for row in zip(*(means for _, means in parts), strict=True):
            name = row[0][0]
            total = sum(weight * tensor for (weight, _), (_, tensor) in zip(parts, row, strict=True))
            assert isinstance(total, Tensor)  # noqa: S101 - `sum` begins with the number 0
            kind = like[name].dtype
            yield name, (total if kind.is_floating_point else total.round()).to(kind)

    def _largest(self, name: str, needed: float) -> float:
        """Bound of a site's share, whoever answers: among the fewest others, or after a larger one was capped."""
        others = [share for other, share in self._registered.items() if other != name]
        if not others:
            return 0.0
        share = self._registered[name]
        beside_one = share + min(others)

        return max(share / max(needed, beside_one), (1.0 - self._most) * share / beside_one)
