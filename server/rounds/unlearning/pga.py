"""PGA in a federation: ascent starts from the others' mean (Halimi et al. 2022, arXiv 2207.05521)."""

from __future__ import annotations

from dataclasses import replace

from common.errors import UnavailableError
from server.rounds.aggregation import State
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import Task, others_round


def from_others_mean(task: Task) -> State:
    """Have the forgetting sites ascend from the model of those that forget nobody.

    The ascent is `common/learning/unlearning/compared/pga.py`.

    That reference is one round of these sites from the parent. The paper gets it by taking the forgetting client's
    last update out of the last mean; here no update is kept that long.

    Raises:
        UnavailableError: every site forgets somebody, so there is no reference.
    """
    others = others_round(task)
    if others is None:
        raise UnavailableError("every site has revocations: pga has no site to take its reference from")
    return at_sites(replace(task, parent=others[0]))
