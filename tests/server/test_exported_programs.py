"""What `models export` writes runs without FedForget, and gives the logits that FedForget gives."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from common.errors import OutputError, RefusedError
from common.learning.config import DataConfig, ModelConfig
from common.learning.data.imaging.images import fit, read_image
from common.learning.data.tokenizer import VOCABULARY, load_tokenizer
from common.learning.model.checkpoint import ModelCard
from common.learning.model.image_text import Outputs
from server.registry.export_files.network import Network
from server.registry.export_files.preparation import read_image as read_alone
from server.registry.export_files.preparation import tokenize
from server.registry.manifest import Manifest, Provenance, digests_of
from server.registry.model_card import write_export
from server.registry.onnx_export import check_onnx
from server.registry.preprocess import preprocess_json

REPORT = "Heart size normal; 2.5 cm opacity (left base), ÉPANCHEMENT pleural. No pneumothorax!"
ALONE = """
import json, runpy, sys
sys.path.append(sys.argv.pop(1))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
ours = {"common", "client", "server", "simulations", "tokenizers", "transformers", "flwr"} & set(sys.modules)
print(sorted(ours), file=sys.stderr)
"""


def card_of(
    encoder: Literal["small_cnn", "resnet7"] = "small_cnn", norm: Literal["group", "batch"] = "group"
) -> ModelCard:
    data = DataConfig(image_size=64, max_tokens=24)
    model = ModelConfig(
        width=4, embedding=8, text_hidden=16, text_layers=2, text_heads=4, image_encoder=encoder, norm=norm
    )
    vocabulary = load_tokenizer(data.tokenizer, data.max_tokens).vocab_size
    return ModelCard(model=model, data=data, classes=("clear", "opacity", "effusion"), vocab_size=vocabulary)


def ours(card: ModelCard, state: dict[str, torch.Tensor], image: Path, report: str) -> torch.Tensor:
    model = card.build()
    model.load_state_dict(state)
    model.eval()
    pixels = torch.from_numpy(fit(read_image(image), card.data.image_size)).float()[None, None] / 255.0
    tokens, mask = load_tokenizer(card.data.tokenizer, card.data.max_tokens).encode([report])
    with torch.inference_mode():
        outputs: Outputs = model(pixels, torch.from_numpy(tokens), torch.from_numpy(mask))

    return outputs.logits


def trained(card: ModelCard) -> dict[str, torch.Tensor]:
    """Weights of a model that has seen a batch, so that running means are not what they began with."""
    model = card.build(3)
    model.train()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokens = torch.randint(5, 100, (4, card.data.max_tokens))
        model(torch.rand(4, 1, 128, 128), tokens, torch.ones_like(tokens))

    return model.state_dict()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).integers(0, 256, (150, 90), dtype=np.uint8)
    Image.fromarray(rows).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def exported(card: ModelCard, state: dict[str, torch.Tensor], folder: Path, *, onnx: bool = False) -> Path:
    from common.learning.model.checkpoint import save_checkpoint

    weights = save_checkpoint(folder / "version", state, card)
    provenance = Provenance(round=1, run=None, code="1", config="c", sites=("north",), metrics=())
    manifest = Manifest(
        name="v0001", created=datetime.now(UTC), parent=None, campaign=None, weights=weights,
        files=digests_of(folder / "version"), provenance=provenance,
    )  # fmt: skip
    (folder / "version" / "manifest.json").write_text(manifest.model_dump_json())

    return write_export(folder / "version", manifest, card, ["v0001"], folder / "out", onnx=onnx)


def packages(folder: Path, *names: str) -> Path:
    """A folder with these distributions and what torch needs to be imported, and nothing else."""
    alone = folder / "packages"
    alone.mkdir()
    wanted = {canonical(name) for name in names}

    while wanted:
        found = distribution(wanted.pop())
        for file in found.files or ():
            top = file.parts[0]
            link = alone / top
            if top not in {"..", "__pycache__"} and not link.is_symlink():
                link.symlink_to(Path(str(found.locate_file(top))))
                if not top.endswith(".dist-info"):
                    wanted |= {canonical(name) for name in needed(found) if name not in {"numpy", "setuptools"}}

    assert not any((alone / name).exists() for name in ("common", "numpy", "tokenizers", "transformers"))
    return alone


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def needed(found: Distribution) -> list[str]:
    """Requirements without a condition."""
    return [re.split(r"[^\w.-]", line)[0] for line in found.requires or () if ";" not in line]


def test_the_exported_folder_gives_the_logits_with_torch_and_safetensors_alone(picture: Path, tmp_path: Path) -> None:
    card = card_of()
    state = trained(card)
    out = exported(card, state, tmp_path)
    facts = json.loads((out / "preprocess.json").read_text())
    tokens, mask = tokenize(REPORT, out / facts["report"]["tokenizer_file"], facts["report"]["max_tokens"])
    images = read_alone(picture, facts["image"]["size"])
    assert hashlib.sha256((out / "vocabulary.json").read_bytes()).hexdigest() == facts["report"]["tokenizer_sha256"]
    assert facts["outputs"]["classes"] == list(card.classes)
    save_file({"images": images, "tokens": tokens, "mask": mask}, tmp_path / "inputs.safetensors")

    alone = packages(tmp_path, "torch", "safetensors")
    argv = [sys.executable, "-I", "-S", "-c", ALONE, alone, out / "example.py", tmp_path / "inputs.safetensors"]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "[]"
    logits = torch.tensor([*json.loads(done.stdout).values()])
    torch.testing.assert_close(logits, ours(card, state, picture, REPORT), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_onnx_file_gives_the_logits_for_any_batch(tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    card = card_of()
    state = trained(card)
    out = exported(card, state, tmp_path, onnx=True)
    network = Network(state, json.loads(card.model_dump_json())["model"])
    session = ReferenceEvaluator(str(out / "model.onnx"))

    for rows in (1, 3):
        tokens = torch.randint(5, 100, (rows, card.data.max_tokens))
        inputs = {"images": torch.rand(rows, 1, 64, 64), "tokens": tokens, "mask": torch.ones_like(tokens)}
        (logits,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        torch.testing.assert_close(torch.tensor(logits), network.logits(*inputs.values()), atol=1e-4, rtol=1e-4)


def test_no_onnx_is_written_of_a_version_with_foreign_encoders(tmp_path: Path) -> None:
    card = card_of()
    foreign = card.model_copy(update={"model": card.model.model_copy(update={"image_encoder": "folder"})})
    with pytest.raises(RefusedError, match="not exported to ONNX"):
        check_onnx(foreign)
    assert json.loads(preprocess_json(foreign))["image"]["normalisation"]["mean"] is None


def test_the_exported_folder_classifies_an_image_and_a_report_without_fedforget(picture: Path, tmp_path: Path) -> None:
    card = card_of()
    state = trained(card)
    out = exported(card, state, tmp_path)
    (tmp_path / "report.txt").write_text(REPORT)
    argv = [sys.executable, "-I", "-c", ALONE, out, out / "predict.py", picture, tmp_path / "report.txt"]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "[]"
    found = json.loads(done.stdout)
    expected = ours(card, state, picture, REPORT)[:, 0].softmax(dim=1)
    assert list(found) == ["image", "report", "both"]
    for row, values in zip(expected, found.values(), strict=True):
        assert list(values) == list(card.classes)
        torch.testing.assert_close(torch.tensor([*values.values()]), row, atol=1e-5, rtol=1e-5)

    readme = (out / "README.md").read_text()
    assert "Last axis: 0 = clear, 1 = opacity, 2 = effusion." in readme
    assert "64 pixels" in readme


@pytest.mark.parametrize("encoder", ["small_cnn", "resnet7"])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_logits_are_those_of_our_model(
    picture: Path, encoder: Literal["small_cnn", "resnet7"], norm: Literal["group", "batch"]
) -> None:
    card = card_of(encoder, norm)
    if encoder == "resnet7":
        card = card.model_copy(update={"data": card.data.model_copy(update={"image_size": 128})})
    state = trained(card)
    tokens, mask = tokenize(REPORT, VOCABULARY, card.data.max_tokens)
    network = Network(state, json.loads(card.model_dump_json())["model"])
    alone = network.logits(read_alone(picture, card.data.image_size), tokens, mask)
    torch.testing.assert_close(alone, ours(card, state, picture, REPORT), atol=1e-5, rtol=1e-5)


def test_a_version_of_a_pretrained_encoder_says_what_it_needs() -> None:
    shape = {"image_encoder": "transformers", "text_encoder": "small_bert"}
    with pytest.raises(SystemExit, match="need transformers and FedForget"):
        Network({}, shape)


LETTERS = st.characters(max_codepoint=0x24F) | st.sampled_from("–—“”…°µ≥≤αβЖ漢字\u200b\u0301\ufffd")
"""As they stand in reports; which characters are assigned at all differs between versions of Unicode."""


@given(text=st.text(LETTERS, max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_report_becomes_the_same_tokens(text: str) -> None:
    tokens, mask = load_tokenizer("builtin", 24).encode([text])
    alone, seen = tokenize(text, VOCABULARY, 24)
    assert alone.tolist() == tokens.tolist()
    assert seen.tolist() == mask.tolist()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "LA"])
def test_an_image_of_any_kind_becomes_the_same_pixels(tmp_path: Path, mode: str) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (120, 70), dtype=np.uint8)
    path = tmp_path / "image.png"

    if mode == "I;16":
        Image.fromarray(rows.astype(np.uint16) * 13 + 400).save(path)
    else:
        Image.fromarray(rows).convert(mode).save(path)

    expected = fit(read_image(path), 64).astype(int)
    found = (read_alone(path, 64)[0, 0] * 255).round().numpy().astype(int)
    assert np.abs(found - expected).max() <= 1


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    card = card_of()
    with pytest.raises(OutputError, match="exists already"):
        exported(card, trained(card), tmp_path)
    assert list((tmp_path / "out").iterdir()) == []
