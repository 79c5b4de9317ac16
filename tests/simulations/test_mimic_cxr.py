"""The presets for MIMIC-CXR, on a made-up folder of the same layout."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from client.cohort.site_files import read_site
from common.errors import CohortError
from common.learning.data.tokenizer import VOCABULARY
from common.learning.records import Subset
from simulations.cli import app
from simulations.comparison.cell_result import load_cells
from simulations.comparison.jobs import Jobs
from simulations.comparison.runner import prepare_folder
from simulations.comparison.settings import load_comparison
from simulations.run.settings import load_settings

PATIENTS = 60
FOLDS = ("1", "2", "3", "4", "5", "TEST")
LISTS = {"3": range(18, 20), "6": range(20, 24), "10": range(18, 25)}
"""Numbers of patients by list. Number 19 is in fold 2, of calibration."""
SMALL = (
    "data.image_size=32", "data.max_tokens=16", "data.cache_bytes=100000000", "model.width=4", "model.embedding=8",
    "model.text_layers=1", "train.rounds=1", "unlearn.passes=1", "decision.bootstrap=50",
)  # fmt: skip


def subject(number: int) -> str:
    return f"1000{number:04}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mimic-cxr` in it, as the how-to wants it: images apart from reports, as in MIMIC-CXR-JPG."""
    home = tmp_path_factory.mktemp("home")
    root = home / "mimic-cxr"
    rows = [("subject_id", "study_id", "dicom_id", "edeme_severity", "fold")]

    for number in range(PATIENTS):
        study = f"5000{number:04}"
        severity = number // 6 % 4
        image = root / "files" / "p10" / f"p{subject(number)}" / f"s{study}" / f"d{number}.jpg"
        report = root / "reports" / "files" / "p10" / f"p{subject(number)}" / f"s{study}.txt"
        image.parent.mkdir(parents=True)
        report.parent.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 200, (32, 32)) + 18 * severity
        Image.fromarray(pixels.astype(np.uint8)).save(image)
        report.write_text(f"FINDINGS: {('no', 'mild', 'moderate', 'severe')[severity]} oedema", encoding="utf-8")
        rows.append((subject(number), study, f"d{number}", str(severity), FOLDS[number % 6]))

    with (root / "folds.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    for name, numbers in LISTS.items():
        listed = [f"{subject(number)},5000{number:04}" for number in numbers]
        (root / f"forget-{name}.csv").write_text("\n".join(["subject_id,study_id", *listed]) + "\n", encoding="utf-8")

    small_scibert(root / "scibert")

    return home


def small_scibert(folder: Path) -> None:
    """A BERT with the tokenizer of this package, in the files of a `transformers` folder."""
    from transformers import BertConfig, BertModel

    vocabulary = json.loads(VOCABULARY.read_text(encoding="utf-8"))["model"]["vocab"]
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **shape)  # type: ignore[arg-type]
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(VOCABULARY, folder / "tokenizer.json")
    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def in_training(sites: Path) -> set[str]:
    files = [read_site(path.parent) for path in sites.glob("*/site.json")]
    return {patient for file in files for patient, subset in file.subsets.items() if subset is Subset.TRAIN}


def listed(name: str) -> set[str]:
    return {subject(number) for number in LISTS[name]}


def test_both_presets_hold_the_same_settings_and_those_of_the_paper() -> None:
    run = load_settings("mimic_cxr_paper", [], {})
    compared = load_comparison("mimic_cxr_paper", [])
    assert compared.run == run.model_copy(update={"forget": compared.run.forget})
    assert (run.experiment.data.image_size, run.experiment.data.max_tokens) == (2048, 320)
    assert (run.experiment.unlearn.image_noise, run.experiment.unlearn.text_noise) == (0.1, 0.5)
    published = load_settings("mimic_cxr_paper", [], {}, "forget_mi_paper").experiment.unlearn
    assert (published.passes, published.batch, published.lr, published.weight_decay) == (30, 16, 1e-4, 0.01)
    assert compared.sizes == (0.03, 0.06, 0.10)
    assert [Path(file).name for file in compared.forget_lists] == ["forget-3.csv", "forget-6.csv", "forget-10.csv"]


@pytest.mark.usefixtures("at_home")
def test_one_command_trains_on_those_who_are_listed_and_forgets_them(tmp_path: Path) -> None:
    command = ["run", "--preset", "mimic_cxr_paper", "--sites", "2", "--no-retrain", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, *(part for text in SMALL for part in ("--set", text))])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["config"]["experiment"]["model"]["text_encoder"] == "transformers"
    assert sum(counts["forget"] for counts in result["data"].values()) == len(LISTS["10"])
    assert result["models"]["unlearned"]["branches"]["fused"]["groups"]["forget"]["auc"] is not None
    assert listed("10") <= in_training(tmp_path / "sites")
    assert subject(7) not in in_training(tmp_path / "sites"), "another patient of fold 2"


@pytest.mark.usefixtures("at_home")
def test_a_comparison_forgets_the_lists_at_each_size_and_tunes_on_nobody_of_them(tmp_path: Path) -> None:
    small = [f"run.experiment.{text}" for text in SMALL]
    config = load_comparison(
        "mimic_cxr_paper",
        [
            *small,
            'methods=["fine_tune"]',
            'aggregations=["relay"]',
            "seeds=1",
            "run.sites=2",
            "tuning.trials=1",
            "tuning.parts=3",
        ],
    )
    prepare_folder(config, tmp_path)
    jobs = Jobs(config, tmp_path)
    jobs.original(config.tuning.seed)
    jobs.original(0)
    everybody = set().union(*(listed(name) for name in LISTS))
    tuned = [read_site(path.parent) for path in (tmp_path / "worlds" / "seed-1000" / "sites").glob("*/site.json")]
    assert tuned
    assert not everybody & {patient for file in tuned for patient in file.cohort.patients}
    assert everybody <= in_training(tmp_path / "worlds" / "seed-0" / "sites")
    jobs.cells(0, 0.06)
    forgot = json.loads((tmp_path / "work" / "seed-0-6" / "forget.json").read_text(encoding="utf-8"))
    assert sum(forgot.values()) == len(LISTS["6"])
    (found,) = (cell for cell in load_cells(tmp_path) if cell.cell.method == "fine_tune")
    assert set(found.forget_sites) == set(forgot)


def test_a_list_that_names_nobody_here_is_refused_before_anything_is_trained(at_home: Path, tmp_path: Path) -> None:
    strange = at_home / "strange.csv"
    strange.write_text("subject_id\n19999999\n", encoding="utf-8")
    small = [f"run.experiment.{text}" for text in SMALL]
    config = load_comparison("mimic_cxr_paper", [*small, "sizes=[0.1]", f'forget_lists=["{strange}"]'])
    with pytest.raises(CohortError, match="1 of 1 patients are in no site") as caught:
        Jobs(config, tmp_path).measure(0)
    assert "19999999" not in str(caught.value)


def test_a_folder_without_its_folds_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--manifest", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "folds.csv" in done.stderr
