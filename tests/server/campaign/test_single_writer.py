"""Which hospital writes a model alone, and which retention round may be the candidate then."""

from __future__ import annotations

import pytest

from common.learning.evaluation.figures import Membership, SelectionFigures
from server.campaign.candidate import choose_round
from server.rounds.unlearning.base import single_writer


@pytest.mark.parametrize(
    ("aggregation", "forgetting", "writer"),
    [
        ("auto", ("north",), "north"),
        ("replace", ("north",), "north"),
        ("auto", ("north", "south"), "south"),
        ("relay", ("north", "south"), "south"),
        ("scaled", ("north",), "north"),
        ("naive", ("north", "south"), None),
        ("auto", (), None),
    ],
)
def test_replace_and_relay_give_the_whole_model_to_one_hospital(
    aggregation: str, forgetting: tuple[str, ...], writer: str | None
) -> None:
    assert single_writer(aggregation, forgetting) == writer


def figures(auc: float) -> SelectionFigures:
    member = Membership(forget_patients=5, control_patients=5, auc=auc, variance=0.01, ks=None, ks_p=None)
    return SelectionFigures(validation={}, membership={"fused": member})


def test_no_round_before_the_fewest_is_chosen_however_good_it_looks() -> None:
    rounds = [figures(auc) for auc in (0.5, 0.5, 0.6, 0.7)]
    assert choose_round(rounds) == 1
    assert choose_round(rounds, 2) == 2
    assert choose_round(rounds, 3) == 3
    assert choose_round(rounds, 9) == 3
    assert choose_round([figures(0.9)], 3) == 0
