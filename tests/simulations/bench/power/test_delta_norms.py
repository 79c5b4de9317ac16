"""The calibration runs behind the gate's bounds can be repeated, and honest sites stay within them."""

from __future__ import annotations

import re

import pytest

from common.learning.unlearning.methods import METHODS
from server.settings import GateConfig
from simulations.bench.power.delta_norms import main

SMALL = [
    "hospitals.sites=2",
    "hospitals.patients=24",
    "forget=2",
    "data.image_size=32",
    "data.max_tokens=16",
    "model.width=4",
    "model.embedding=16",
    "model.text_hidden=16",
    "model.text_layers=1",
    "unlearn.passes=2",
]


def relative(line: str) -> float:
    found = re.search(r"relative (\d+\.\d+)", line)
    assert found
    return float(found.group(1))


def test_it_prints_a_step_for_every_round_method_and_weighting_and_the_gate_lets_forget_mi_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(preset="hospitals", rounds=2, seeds=1, assignments=SMALL)
    lines = capsys.readouterr().out.splitlines()
    trained = lines[:2]
    unlearned = lines[2:]
    assert len(unlearned) == len(METHODS) + 6
    assert all(0 < relative(line) < GateConfig().train_weights for line in trained)
    refused = {line.split()[2] for line in unlearned if relative(line) >= GateConfig().unlearn_norm}
    assert refused == {"eu_k"}, "only the method that draws layers anew moves further than the gate lets through"
