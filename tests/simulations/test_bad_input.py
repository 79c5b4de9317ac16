"""Bad input: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from common.errors import CheckpointError
from common.learning.model.checkpoint import load_checkpoint, save_checkpoint
from simulations.cli import app
from simulations.synthetic.federation import write_federation

SECRET = "PATIENT-NAME"


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_federation(tmp_path_factory.mktemp("hospital"), sites=2, patients=12, seed=3, image_size=48)


def edited(hospital: Path, change: Callable[[list[list[str]]], None]) -> Path:
    """A copy of the manifest beside it with its rows changed."""
    import csv

    with hospital.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    path = hospital.parent / "edited.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["run", "--engine", "inprocess", *arguments])
    return done.exit_code, " ".join(done.stderr.split())


def column(rows: list[list[str]], name: str) -> int:
    return rows[0].index(name)


def without_label(rows: list[list[str]]) -> None:
    at = column(rows, "label")
    for row in rows:
        del row[at]


def missing_image(rows: list[list[str]]) -> None:
    rows[2][column(rows, "image")] = f"{SECRET}.dcm"


def empty_report(rows: list[list[str]]) -> None:
    rows[3][column(rows, "report")] = "  "


def damaged_image(rows: list[list[str]]) -> None:
    rows[2][column(rows, "image")] = "damaged.dcm"


def two_splits(rows: list[list[str]]) -> None:
    rows[0].append("split")
    for row in rows[1:]:
        row.append("train")
    same = [r for r in rows[1:] if r[0] == rows[1][0]]
    same[0][-1] = "test"
    if len(same) == 1:
        rows.append([*same[0][:-1], "train"])
        rows[-1][1] += "-again"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_label, "label"),
        (missing_image, "row 3"),
        (empty_report, "row 4"),
        (damaged_image, "row 3"),
        (two_splits, "split"),
    ],
)
def test_a_bad_manifest_is_one_line_that_names_file_and_row(
    hospital: Path, tmp_path: Path, change: Callable[[list[list[str]]], None], expected: str
) -> None:
    (hospital.parent / "damaged.dcm").write_bytes(b"not an image")
    out = tmp_path / "out"
    code, text = run("--manifest", str(edited(hospital, change)), "--out", str(out))
    assert code == 2, text
    assert expected in text
    assert "edited.csv" in text
    assert "Traceback" not in text
    assert SECRET not in text
    assert not (out / "result.json").exists()
    assert not (out / "sites").exists()


def test_a_forget_list_with_unknown_patients_counts_them_and_names_none(hospital: Path, tmp_path: Path) -> None:
    listed = tmp_path / "forget.csv"
    listed.write_text(f"patient_id\n{SECRET}\n", encoding="utf-8")
    code, text = run("--manifest", str(hospital), "--forget", str(listed), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "1 of 1 patients" in text
    assert SECRET not in text


def test_a_site_with_too_few_patients_says_how_many_are_needed(hospital: Path, tmp_path: Path) -> None:
    code, text = run("--manifest", str(hospital), "--sites", "8", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "too few patients" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "train.roundz=3"),
        ("--set", "nonsense"),
        ("--preset", "no-such-preset"),
        ("--method", "magic"),
        ("--forget-site", "site-9"),
        ("--device", "cuda:77x"),
    ],
)
def test_a_wrong_setting_is_one_line(hospital: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, text = run("--manifest", str(hospital), *arguments, "--out", str(tmp_path / "out"))
    assert code == 2, text
    assert text.startswith("error:")
    assert "Traceback" not in text


def test_a_folder_that_cannot_be_written_is_one_line(hospital: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, text = run("--manifest", str(hospital), "--out", str(tmp_path / "file" / "out"))
    assert code == 2
    assert "--out" in text


def test_a_checkpoint_with_nan_or_of_another_config_is_refused(hospital: Path, tmp_path: Path) -> None:
    from common.learning.config import DataConfig, ModelConfig
    from common.learning.model.checkpoint import ModelCard

    small = ModelConfig(width=4, embedding=8, text_hidden=16, text_heads=2, text_layers=1)
    card = ModelCard(model=small, data=DataConfig(image_size=32), classes=("a", "b"), vocab_size=50)
    state = card.build().state_dict()
    save_checkpoint(tmp_path / "good", state, card)
    other = card.model_copy(update={"model": small.model_copy(update={"embedding": 16})})
    with pytest.raises(CheckpointError, match="embedding"):
        load_checkpoint(tmp_path / "good", other)
    state["fusion.gate.bias"][0] = torch.nan
    save_checkpoint(tmp_path / "nan", state, card)
    with pytest.raises(CheckpointError, match="NaN"):
        load_checkpoint(tmp_path / "nan", card)
