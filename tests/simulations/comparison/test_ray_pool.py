"""A comparison on Ray: started here, with two cores, as `--ray local` does."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

PRESET = """
methods = ["fine_tune"]
sizes = [0.15]
seeds = 1

[tuning]
trials = 1

[run]
engine = "inprocess"

[run.hospitals]
sites = 2
patients = 20
image_size = 32

[run.experiment]
data = { image_size = 32, max_tokens = 16 }
model = { width = 4, embedding = 8, text_hidden = 16, text_heads = 2, text_layers = 1 }
train = { rounds = 1, local_epochs = 1 }
unlearn = { passes = 1 }
decision = { bootstrap = 50 }
"""
ERRORS = """
import os
from pathlib import Path
from common.errors import CohortError
from simulations.comparison.ray_pool import ray_pool

def fails(text):
    raise CohortError(text, where=str(Path.cwd()), remedy=os.environ["OMP_NUM_THREADS"])

with ray_pool("local") as pool:
    print(pool.submit(len, "four").result())
    try:
        pool.submit(fails, "too few").result()
    except CohortError as error:
        print(error)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.mark.slow
def test_a_comparison_on_ray_has_the_figures_of_one_in_processes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PRESET, encoding="utf-8")
    sim = ("-c", "from simulations.cli import app; app()", "compare", "--preset", "mine.toml")
    tables = []

    for where in (("--ray", "local"), ("--jobs", "1")):
        done = run(tmp_path, *sim, *where, "--out", where[0].strip("-"))
        assert done.returncode == 0, done.stderr
        with (tmp_path / where[0].strip("-") / "table.csv").open(encoding="utf-8") as file:
            tables.append([{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)])

    assert [row["method"] for row in tables[0]] == ["original", "retrained", "fine_tune"]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_what_a_task_returns_or_raises_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text(ERRORS, encoding="utf-8")
    done = run(tmp_path, "errors.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["4", f"{tmp_path}: too few (1)"]


def test_a_cluster_that_does_not_answer_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    code = (
        "from common.errors import UnavailableError\n"
        "from simulations.comparison.ray_pool import RayPool\n"
        "try:\n    RayPool('auto')\nexcept UnavailableError as error:\n    print(error)\n"
    )
    done = run(tmp_path, "-c", code)
    assert done.stdout.startswith("no Ray at auto: "), done.stderr
