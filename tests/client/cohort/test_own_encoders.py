"""A hospital names its own copies of the federation's encoders; the coordinator's paths are never opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from encoder_folders import SIDE, save_image, save_text
from PIL import Image
from typer.testing import CliRunner

from client.cohort.imports.own_encoders import options_for
from client.cohort.site_files import SITE_FILE, read_site
from client.commands import data
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.checkpoint import ModelCard

app = typer.Typer()
data.register(app)


@pytest.fixture
def encoders(tmp_path: Path) -> Path:
    """The hospital's folders of both encoders, and a manifest."""
    save_image(tmp_path / "own" / "image", "resnet")
    save_text(tmp_path / "own" / "text", "distilbert")
    rows = ["patient_id,study_id,image,report,label"]
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"p{number},s{number},{number}.png,clear lungs {number},{('clear', 'opacity')[number % 2]}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    return tmp_path / "own"


def join(folder: Path, encoders: Path, **model: object) -> None:
    """Write the card of a federation whose coordinator has the encoders in `/srv`, which nothing here may open."""
    there = {"image_folder": str(encoders / "image"), "text_folder": str(encoders / "text")}
    settings = ModelConfig.model_validate(
        {"image_encoder": "folder", "text_encoder": "folder", "frozen": "both", **there, **model}
    )
    card = ModelCard(model=settings, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()
    text = card.model_dump_json().replace(str(encoders), "/srv/of-the-coordinator")
    (folder / "federation").mkdir(parents=True, exist_ok=True)
    (folder / "federation" / "experiment.json").write_text(text, encoding="utf-8")


def run(encoders: Path, folder: Path, *options: object) -> Result:
    words = ["data", "import", encoders.parent / "cohort.csv", "--dir", folder, "--distinct-ids", *options]
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_an_import_without_the_encoders_says_which_to_name_and_registers_nothing(
    encoders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "north"
    join(folder, encoders)
    card = json.loads((folder / "federation" / "experiment.json").read_text())
    result = run(encoders, folder)
    assert result.exit_code == 2
    assert f"image encoder (digest {card['image_encoder'][:12]})" in said(result)
    assert f"text encoder (digest {card['text_encoder'][:12]})" in said(result)
    assert "--image-encoder FOLDER --text-encoder FOLDER" in said(result)
    assert not (folder / SITE_FILE).exists()


def test_named_encoders_take_the_place_of_the_coordinators_and_a_later_import_keeps_them(
    encoders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "north"
    join(folder, encoders)
    named = ("--image-encoder", encoders / "image", "--text-encoder", encoders / "text")
    first = run(encoders, folder, *named)
    assert first.exit_code == 0, first.output
    assert "/srv" not in (folder / SITE_FILE).read_text()
    again = run(encoders, folder)
    assert again.exit_code == 0, again.output

    shutil.copytree(encoders / "text", tmp_path / "elsewhere")
    moved = run(encoders, folder, "--text-encoder", tmp_path / "elsewhere")
    assert moved.exit_code == 0, moved.output
    card = read_site(folder).card
    assert (card.model.text_folder, card.data.tokenizer) == (str(tmp_path / "elsewhere"),) * 2
    assert card.model.image_folder == str(encoders / "image")


def test_another_encoder_than_the_federations_is_refused_at_the_import(encoders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    join(folder, encoders)
    other = save_image(tmp_path / "other", "convnext")
    result = run(encoders, folder, "--image-encoder", other, "--text-encoder", encoders / "text")
    assert result.exit_code == 2
    assert "the image encoder here is not the federation's" in said(result)
    assert not (folder / SITE_FILE).exists()


def test_an_encoder_that_the_model_does_not_take_is_refused(encoders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    join(folder, encoders, image_encoder="small_cnn", image_folder="", frozen="text")
    result = run(encoders, folder, "--image-encoder", encoders / "image", "--text-encoder", encoders / "text")
    assert result.exit_code == 2
    assert "takes no image encoder from a folder" in said(result)


def test_a_tokenizer_with_a_folder_of_its_own_is_named_by_itself(encoders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    join(folder, encoders)
    file = folder / "federation" / "experiment.json"
    card = json.loads(file.read_text())
    card["data"]["tokenizer"] = "/srv/tokenizer"
    file.write_text(json.dumps(card), encoding="utf-8")
    both = ("--image-encoder", encoders / "image", "--text-encoder", encoders / "text")
    refused = run(encoders, folder, *both)
    assert (refused.exit_code, "give --tokenizer FOLDER" in said(refused)) == (2, True)
    imported = run(encoders, folder, *both, "--tokenizer", encoders / "text")
    assert imported.exit_code == 0, imported.output


def test_the_options_that_an_import_needs_are_known_from_the_card(encoders: Path, tmp_path: Path) -> None:
    join(tmp_path / "north", encoders)
    experiment = (tmp_path / "north" / "federation" / "experiment.json").read_bytes()
    assert options_for(experiment) == " --image-encoder FOLDER --text-encoder FOLDER"
    plain = ModelCard(model=ModelConfig(), data=DataConfig(), classes=("clear",), vocab_size=1)
    assert options_for(plain.model_dump_json().encode()) == ""


def test_the_bundle_of_an_earlier_coordinator_without_digests_is_pinned_by_the_folders_here(
    encoders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "north"
    join(folder, encoders)
    file = folder / "federation" / "experiment.json"
    card = json.loads(file.read_text())
    digests = {name: card.pop(name) for name in ("image_encoder", "text_encoder")}
    card["data"] = DataConfig().model_dump(mode="json")
    card["vocab_size"] = 3140
    file.write_text(json.dumps(card), encoding="utf-8")
    imported = run(encoders, folder, "--image-encoder", encoders / "image", "--text-encoder", encoders / "text")
    assert imported.exit_code == 0, imported.output
    here = read_site(folder).card
    assert {"image_encoder": here.image_encoder, "text_encoder": here.text_encoder} == digests
    assert here.data.image_size == SIDE
