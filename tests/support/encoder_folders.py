"""Folders of small encoders with random weights, one of each family, as `save_pretrained` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

SIDE = 32
WIDTH = 16
POSITIONS = 32
MEAN = [0.2, 0.3, 0.4]
STD = [0.5, 0.25, 0.2]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "clear", "opacity", "heart", "lungs", "left", "right", "small", "large"]

_SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_VISION = {**_SHAPE, "image_size": SIDE, "patch_size": 16}
_TEXT = {**_SHAPE, "vocab_size": 60, "max_position_embeddings": POSITIONS}


def _swin() -> dict[str, Any]:
    return {
        "image_size": SIDE,
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 4,
    }


def _both(kind: str) -> dict[str, Any]:
    tokens = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0} if kind == "clip" else {}
    return {"text_config": {**_TEXT, **tokens, "projection_dim": 8}, "vision_config": {**_VISION, "projection_dim": 8}}


_STAGES = {"hidden_sizes": [8, WIDTH], "depths": [1, 1]}
IMAGE: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "vit": ("ViT", lambda: _VISION),
    "deit": ("DeiT", lambda: _VISION),
    "dinov2": ("Dinov2", lambda: {**_VISION, "mlp_ratio": 2}),
    "dinov2_with_registers": ("Dinov2WithRegisters", lambda: {**_VISION, "mlp_ratio": 2}),
    "swin": ("Swin", _swin),
    "swinv2": ("Swinv2", _swin),
    "convnext": ("ConvNext", lambda: {**_STAGES, "num_stages": 2, "image_size": SIDE}),
    "convnextv2": ("ConvNextV2", lambda: {**_STAGES, "num_stages": 2, "image_size": SIDE}),
    "resnet": ("ResNet", lambda: {**_STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "efficientnet": (
        "EfficientNet",
        lambda: {
            "image_size": SIDE, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320,
        },
    ),
    "clip": ("CLIP", lambda: _both("clip")),
    "clip_vision_model": ("CLIPVision", lambda: _VISION),
    "siglip": ("Siglip", lambda: _both("siglip")),
    "siglip_vision_model": ("SiglipVision", lambda: _VISION),
}  # fmt: skip
TEXT: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "bert": ("Bert", lambda: _TEXT),
    "roberta": ("Roberta", lambda: {**_TEXT, "max_position_embeddings": POSITIONS + 1, "pad_token_id": 0}),
    "xlm-roberta": ("XLMRoberta", lambda: {**_TEXT, "max_position_embeddings": POSITIONS + 1, "pad_token_id": 0}),
    "distilbert": (
        "DistilBert",
        lambda: {
            "vocab_size": 60, "dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
            "max_position_embeddings": POSITIONS,
        },
    ),
    "deberta": ("Deberta", lambda: {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": ("DebertaV2", lambda: {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "modernbert": (
        "ModernBert",
        lambda: {**_TEXT, "pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8},
    ),
    "clip": ("CLIP", lambda: _both("clip")),
    "clip_text_model": ("CLIPText", lambda: {**_TEXT, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}),
    "siglip": ("Siglip", lambda: _both("siglip")),
    "siglip_text_model": ("SiglipText", lambda: _TEXT),
}  # fmt: skip


def save_image(folder: Path, kind: str = "vit", seed: int = 0) -> Path:
    """An image encoder with its image processor."""
    _save(folder, *IMAGE[kind], seed=seed)
    write_pixels(folder)
    return folder


def save_text(folder: Path, kind: str = "bert", seed: int = 0) -> Path:
    """A text encoder with a tokenizer of a few words."""
    _save(folder, *TEXT[kind], seed=seed)
    write_tokenizer(folder)
    return folder


def write_pixels(folder: Path, **values: Any) -> None:
    said = {
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD,
        "size": {"height": SIDE, "width": SIDE},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, **values}))


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(folder / "tokenizer.json"))
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))


def _save(folder: Path, name: str, settings: Callable[[], dict[str, Any]], *, seed: int) -> None:
    import transformers

    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{name}Config")(**settings())
        getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
