"""The calibration runs behind the gate's bounds can be repeated, and honest sites stay within them."""

from __future__ import annotations

import re

import pytest

from server.settings import GateConfig
from simulations.delta_norms import main

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


def test_it_prints_a_step_for_every_round_method_and_weighting_and_all_pass_the_gate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(preset="demo", rounds=2, seeds=1, assignments=SMALL)
    lines = capsys.readouterr().out.splitlines()
    trained, unlearned = lines[:2], lines[2:]
    assert len(unlearned) == 8
    steps = [float(found.group(1)) for line in lines if (found := re.search(r"relative (\d\.\d+)", line))]
    assert len(steps) == 10
    assert all(0 < step < GateConfig().train_weights for step in steps[: len(trained)])
    assert all(0 < step < GateConfig().unlearn_norm for step in steps[len(trained) :])
