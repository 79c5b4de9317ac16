"""How long each site has held up all others in a run: a slow one has a budget, beside the deadline of each exchange."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

OnSpent = Callable[[str, float], None]
"""Called once with a site and the hours for which it held up the others."""


def _nobody_told(site: str, hours: float) -> None:
    """Simulations have no budget."""


@dataclass
class Holding:
    """Seconds put down to each site.

    While an exchange waits, its time is put down to those who have not answered, once half of those who were asked
    have. So a round that is long for all costs nobody anything, and who answers just before each deadline is found.
    """

    budget: float = math.inf
    """Seconds of one site in one run."""
    on_spent: OnSpent = _nobody_told
    seconds_of_site: dict[str, float] = field(default_factory=dict)

    def over(self, site: str) -> bool:
        """Whether a site has used up its budget: nobody waits for it, and it is asked no more."""
        return self.seconds_of_site.get(site, 0.0) >= self.budget

    def charge(self, waiting: Collection[str], asked: int, seconds: float) -> bool:
        """Put seconds of waiting down to `waiting`, of so many `asked`; whether none of them has time left."""
        # Until half have answered, the round is long for everybody.
        if asked > 1 and 2 * (asked - len(waiting)) < asked:
            return False

        for site in waiting:
            had_time = not self.over(site)
            self.seconds_of_site[site] = self.seconds_of_site.get(site, 0.0) + seconds
            if had_time and self.over(site):
                self.on_spent(site, self.seconds_of_site[site] / 3600.0)

        return all(map(self.over, waiting))
