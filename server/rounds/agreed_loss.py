"""The validation loss that training stops on, from what several hospitals report. Values in, a value out.

A mean follows whoever reports the largest number: one hospital that reports 0 in the first round and a huge loss later
makes every training end with its first weights. A median in which no hospital holds half of the weight always lies
between the losses of two others.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.rounds.aggregation import shares

_MOST_SHARE = 0.499
"""Of one hospital, so that among three or more no single one is the median by its weight."""


def agreed_loss(losses: Mapping[str, float], registered: Mapping[str, float]) -> float | None:
    """Median of the sites' losses, weighted by their registered shares; None without any.

    Of two sites it is the mean: nothing tells which of them is wrong.
    """
    weighing = {site: registered[site] for site in losses if registered.get(site, 0.0) > 0}
    if not weighing:
        return None
    weights = shares(weighing, _MOST_SHARE)
    # By name as well, so that equal losses give the same order at every run.
    sites_by_loss = sorted(weights, key=lambda site: (losses[site], site))
    below = 0.0

    for site, following in zip(sites_by_loss, [*sites_by_loss[1:], sites_by_loss[-1]], strict=True):
        below += weights[site]
        # Exactly half lies below: any value up to the next loss is a median. Floats of shares rarely add up to .5
        # exactly.
        if abs(below - 0.5) < 1e-9:
            return (losses[site] + losses[following]) / 2
        if below > 0.5:
            return losses[site]

    return losses[sites_by_loss[-1]]
