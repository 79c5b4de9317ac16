"""Whether one forgetting hospital's own figures refuse a candidate that all of them together would pass.

Pooled figures weigh by patients, so a hospital with many of them, or one that claims many, hides what the model
remembers of another's. Each hospital is therefore tested by itself as well. Values in, reasons out.
"""

from __future__ import annotations

from collections.abc import Iterator

from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.merge import bounded, interval
from common.learning.evaluation.scores import BRANCHES
from common.learning.records import Subset
from server.rounds.unlearning.base import Collected

_ERROR = 0.05
"""Of all tests of a branch together, two-sided; shared among the hospitals by Bonferroni's correction."""


def refused_at(figures: FederationFigures, collected: Collected, config: DecisionConfig) -> Iterator[str]:
    """One reason for each hospital and branch whose membership AUC certainly lies outside the band.

    A hospital whose interval reaches into the band refuses nothing by itself: its patients are too few to tell, and the
    pooled test decides. A single forgetting hospital is the pooled test.
    """
    limits = collected.eligible(Subset.AUDIT) or {}
    figures_by_site = {name: figures.membership_by_site[name] for name in limits if name in figures.membership_by_site}
    if len(figures_by_site) < 2:
        return
    level = 1.0 - _ERROR / len(figures_by_site)
    low = 0.5 - config.auc_margin
    high = 0.5 + config.auc_margin

    for name, branches in sorted(figures_by_site.items()):
        for branch in BRANCHES:
            member = bounded(branches[branch], limits[name])
            wide = interval(member, level)
            if wide is None or (wide[0] <= high and wide[1] >= low):
                continue
            what = "still remembers" if wide[0] > high else "over-forgot"
            bounds = f"{level:.1%} interval {wide[0]:.2f} to {wide[1]:.2f}"
            yield f"{name}, {branch}: membership AUC {member.auc:.2f}, {bounds}, {what}"
