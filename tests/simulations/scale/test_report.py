"""What is drawn from the results of sizes whose growth is known, and which sizes are measured again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError, ResultError
from simulations.cli import app
from simulations.scale import runner
from simulations.scale.growth import growth
from simulations.scale.output import Report, said, to_markdown
from simulations.scale.result import STAGES, Size, Stage, read_size, size_path, write_size
from simulations.scale.settings import load_scale


def size(hospitals: int, *, digest: str = "", power: float = 1.0, peak: float | None = 20.0) -> Size:
    """A size at which the server works half a second a hospital to `power`."""
    stage = Stage(
        server=0.5 * hospitals**power, hospitals=2.0 * hospitals, slowest=2.0, wall=3.0 * hospitals,
        up=1000 * hospitals, down=2000 * hospitals, messages=hospitals,
    )  # fmt: skip
    return Size(
        digest=digest, hospitals=hospitals, patients=6 * hospitals, forgotten=2, parameters=100,
        stages=dict.fromkeys(STAGES, stage), merge=0.001, memory=400.0, peak=peak, decision="inconclusive",
        machine="2 cores", versions={"python": "3"}, seconds=1.0,
    )  # fmt: skip


def report(*sizes: Size) -> Report:
    return Report(command="fedforget-sim scale", sizes=sizes, growth=growth(sizes))


def test_exponents_are_those_that_the_figures_were_made_with() -> None:
    found = {one.name: one for one in growth([size(n, power=1.5) for n in (4, 16, 64)])}
    work = found["Server: Training, a round"]
    assert work.exponent == pytest.approx(1.5)
    assert work.last == pytest.approx(1.5)
    assert work.each == pytest.approx(0.5 * (64**1.5 - 16**1.5) / 48)
    assert work.verdict == "FASTER THAN LINEAR"
    assert found["Server: peak memory above the start"].verdict == "flat"
    assert found["Up: a round"].verdict == "linear"


def test_the_time_to_forget_waits_for_the_slowest_hospital_and_not_for_all_of_them() -> None:
    assert size(16).forget == pytest.approx(3 * (0.5 * 16 + 2.0))


def test_what_bends_is_named_and_nothing_else() -> None:
    steep = said(report(size(4, power=1.3), size(16, power=1.3)))
    assert "Training, a round (n^1.30)" in steep
    assert "Up: a round" not in steep
    assert said(report(size(4), size(16))).startswith("Nothing grows faster")
    assert said(report(size(4))).startswith("Nothing can be said")


def test_a_figure_that_could_not_be_measured_stays_empty() -> None:
    lines = to_markdown(report(size(4, peak=None), size(16, peak=None))).splitlines()
    (line,) = (line for line in lines if "peak memory" in line)
    assert line.split("|")[3:6] == ["  ", "  ", "  "]
    assert line.endswith("| not known |")


def test_tables_and_picture_are_drawn_from_stored_results_without_torch_or_flower(tmp_path: Path) -> None:
    for hospitals in (4, 16):
        write_size(tmp_path, size(hospitals))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from simulations.scale.output import write_output\n"
        "from simulations.scale.result import read_size, size_path\n"
        "out = Path(sys.argv[1])\n"
        "write_output([read_size(size_path(out, n)) for n in (4, 16)], out, 'fedforget-sim scale')\n"
        "sys.exit(' '.join({'torch', 'flwr'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert "`fedforget-sim scale`. 2 cores." in (tmp_path / "scale.md").read_text(encoding="utf-8")
    assert Report.model_validate_json((tmp_path / "scale.json").read_bytes()) == report(size(4), size(16))
    with (tmp_path / "scale.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["hospitals"], line["stage"]) for line in lines] == [(n, s) for n in ("4", "16") for s in STAGES]
    assert lines[-1]["server_s"] == "8.0000"


def test_a_size_with_a_result_is_not_measured_again_and_one_with_other_settings_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_scale("quick", [])
    for hospitals in config.sizes:
        write_size(tmp_path, size(hospitals, digest=runner.digest(config, hospitals)))
    done = CliRunner().invoke(app, ["scale", "--preset", "quick", "--json", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert [one["hospitals"] for one in json.loads(done.stdout)["sizes"]] == list(config.sizes)

    measured: list[int] = []

    def again(_config: object, _world: object, out: Path, count: int, _progress: object) -> Size:
        measured.append(count)
        return read_size(size_path(out, count))

    monkeypatch.setattr(runner, "measured", again)
    monkeypatch.setattr(runner, "made", lambda *_: None)
    more = load_scale("quick", ["sizes=[2, 8, 11]"])
    write_size(tmp_path, size(11))
    runner.run_sizes(more, tmp_path, lambda *_: None)
    assert measured == [11]
    runner.run_sizes(load_scale("quick", ["rounds=4"]), tmp_path, lambda *_: None)
    assert measured == [11, 2, 8]


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    write_size(tmp_path, size(4))
    size_path(tmp_path, 4).write_text("{}", encoding="utf-8")
    with pytest.raises(ResultError, match=r"4\.json"):
        read_size(size_path(tmp_path, 4))


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("sizes=[8, 4]", "sizes must rise"),
        ("sizes=[1, 4]", "sizes must rise"),
        ("run.manifest=a.csv", "synthetic hospitals"),
        ("rounds=1", "rounds"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_scale("quick", [assignment])


def test_an_unknown_preset_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ConfigError, match="quick, standard"):
        load_scale("huge", [])
