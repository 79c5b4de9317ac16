"""An alarm over the rehearsals that run beside campaigns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.learning.evaluation.qualification.plan import QualificationPlan

BETS = (0.2, 0.5, 0.8)
WINDOW = 40
"""Last rehearsals by which the rule is applied again."""


def drift_alarm(differences: Sequence[Sequence[float]], plan: QualificationPlan, level: float = 0.05) -> str | None:
    """Why the procedure has drifted, or None. `differences` are D_m of each later rehearsal, `[M][3]`, oldest first.

    A bet that the mean of a branch lies beyond the margin multiplies its stake by 1 + b (D_m - margin); whatever the
    distribution of the D_m, it grows 1/level-fold with probability `level` at most while the mean is within (Ville
    1939). It may be looked at after each rehearsal. It serves as an alarm and never to accept anything: rehearsals
    that share few never-seen patients err together, which a bet does not know.
    """
    if not differences:
        return None
    # Within [-1, 1] no bet can lose more than its stake.
    values = np.clip(np.asarray(differences, dtype=float), -1.0, 1.0)
    sides = {"remembers more": values - plan.auc_margin, "forgets more": -values - plan.auc_margin}
    # Both sides of each branch are watched, so each gets its part of the level.
    bets = 2 * values.shape[1]

    for name, excess in sides.items():
        # The mean of several bets is a bet, so its size need not be chosen beforehand.
        growth = np.stack([np.cumprod(1 + bet * excess, axis=0) for bet in BETS]).mean(axis=0)
        if (growth.max(axis=0) >= bets / level).any():
            return f"the procedure {name} than when it was qualified, seen in {len(values)} rehearsals since"

    return None
