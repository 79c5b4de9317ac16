"""Folders that do not fit are one clear line with a remedy, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from encoder_folders import SIDE, save_image, save_text, write_pixels
from safetensors.torch import load_file, save_file

from common.errors import ConfigError
from common.learning.model.encoder_report import report_on
from tests.common.learning.model.test_encoder_families import card_of

Damage = Callable[[Path], object]


def config(**values: Any) -> Damage:
    return lambda folder: _merge(folder / "config.json", values)


def pixels(**values: Any) -> Damage:
    return lambda folder: write_pixels(folder, **values)


def lacks_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop(next(name for name in sorted(state) if "layer" in name))
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def of_open_clip(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "open_clip_config.json").write_text("{}")


def more_words(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"word{number}": number for number in range(12, 500)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


IMAGES: dict[str, tuple[Damage, str]] = {
    "no settings": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "settings are no JSON": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    "settings are a list": (lambda f: (f / "config.json").write_text("[1]"), "not a JSON object"),
    "settings nested without end": (lambda f: (f / "config.json").write_text("[" * 100_000), "not JSON"),
    "another family": (config(model_type="gpt2"), "family 'gpt2' is not known"),
    "no family": (config(model_type=None), "is not known"),
    "a text encoder": (config(model_type="bert"), "BERT reads texts"),
    "code of its own": (config(auto_map={"AutoModel": "evil.Model"}), "code of its own, which is never run"),
    "adapters": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds adapters, not an encoder"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "a pickle": (pickle_only, "pickles are not read"),
    "garbage for weights": (lambda f: (f / "model.safetensors").write_bytes(b"no"), "damaged"),
    "weights that lack a tensor": (lacks_a_tensor, "lacks 1 tensors of ViT"),
    "weights of another shape": (config(hidden_size=32), "no weights of ViT, or damaged"),
    "a wrong patch size": (config(patch_size=8), "no weights of ViT, or damaged"),
    "hidden size is a text": (config(hidden_size="x"), "config.json"),
    "negative channels": (config(num_channels=-1), "num_channels"),
    "no normalisation": (lambda f: (f / "preprocessor_config.json").unlink(), "how pixels are normalised is not known"),
    "mean of two channels": (pixels(image_mean=[0.1, 0.2]), "image_mean: one number for each of 3"),
    "mean is a text": (pixels(image_mean=["a", "b", "c"]), "image_mean"),
    "mean is not finite": (pixels(image_mean=[float("nan")] * 3), "image_mean"),
    "no spread": (pixels(image_std=[0.0, 1.0, 1.0]), "image_std: must be above 0"),
    "scale is negative": (pixels(rescale_factor=-1), "rescale_factor"),
    "an offset": (pixels(rescale_offset=True), "rescale_offset is not known"),
    "not a square": (pixels(size={"height": SIDE, "width": 2 * SIDE}), "not a square"),
    "a size without bounds": (pixels(size={"height": 10**9, "width": 10**9}), "not a square of 16 to 4096"),
    "another size than the network's": (pixels(size={"height": 48, "width": 48}), "cannot read images of 48 x 48"),
}
TEXTS: dict[str, tuple[Damage, str]] = {
    "an image encoder": (config(model_type="vit"), "ViT reads images"),
    "no tokenizer": (no_tokenizer, "not a tokenizer"),
    "more words than the embedding": (more_words, "knows 60 tokens, the tokenizer gives 500"),
    "two ways of pooling": (
        lambda f: _pooling(f, pooling_mode_cls_token=True, pooling_mode_mean_tokens=True),
        "is not known",
    ),
    "another pooling": (lambda f: _pooling(f, pooling_mode_weightedmean_tokens=True), "is not known"),
    "an open_clip folder": (
        of_open_clip,
        "open_clip",
    ),
}


@pytest.mark.parametrize("what", sorted(IMAGES))
def test_an_image_folder_that_does_not_fit_is_one_line_with_a_remedy(what: str, tmp_path: Path) -> None:
    damage, says = IMAGES[what]
    image, text = save_image(tmp_path / "image"), save_text(tmp_path / "text")
    damage(image)
    refused(says, lambda: card_of(image, text, frozen="both"))


@pytest.mark.parametrize("what", sorted(TEXTS))
def test_a_text_folder_that_does_not_fit_is_one_line_with_a_remedy(what: str, tmp_path: Path) -> None:
    damage, says = TEXTS[what]
    image, text = save_image(tmp_path / "image"), save_text(tmp_path / "text")
    damage(text)
    refused(says, lambda: card_of(image, text, frozen="both"))


@pytest.mark.parametrize("missing", ["image", "text"])
def test_a_folder_that_is_not_there_is_one_line_with_a_remedy(missing: str, tmp_path: Path) -> None:
    folders = {"image": save_image(tmp_path / "image"), "text": save_text(tmp_path / "text")}
    folders[missing] = tmp_path / "nowhere"
    refused("no such folder", lambda: card_of(folders["image"], folders["text"]))


def test_a_timm_folder_without_timm_names_the_extra(tmp_path: Path) -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("timm is installed")

    write_timm(tmp_path)
    refused(r"fedforget\[timm\]", lambda: report_on(tmp_path))


def test_a_folder_with_two_towers_asks_which_one(tmp_path: Path) -> None:
    save_image(tmp_path, "clip")
    refused("--reads image or --reads text", lambda: report_on(tmp_path))
    assert report_on(tmp_path, "image")["family"] == "CLIP, image tower"


def refused(says: str, work: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        work()
    assert caught.value.remedy
    assert caught.value.where
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def write_timm(folder: Path, architecture: str = "resnet10t") -> None:
    values = {"input_size": [3, SIDE, SIDE], "mean": [0.5] * 3, "std": [0.5] * 3, "license": "apache-2.0"}
    card = {"architecture": architecture, "num_classes": 0, "num_features": 512, "pretrained_cfg": values}
    (folder / "config.json").write_text(json.dumps(card))
    (folder / "model.safetensors").write_bytes(b"")


def _merge(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
