"""`preprocess.json` of an exported version: how an image and a report become what the network reads."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from common.learning.data.vocabulary import BUILTIN, VOCABULARY
from common.learning.model.card import ModelCard

PREPROCESS_FILE = "preprocess.json"
VOCABULARY_FILE = "vocabulary.json"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def preprocess_json(card: ModelCard) -> str:
    """What a program in any language needs to prepare inputs and to read the outputs."""
    facts = {"schema_version": 1, "image": _image(card), "report": _report(card), "outputs": _outputs(card)}
    return json.dumps(facts, indent=2) + "\n"


def stands_alone(card: ModelCard) -> bool:
    """Whether the exported programs run the version: its encoders and its tokenizer are our own."""
    own_encoders = card.model.image_encoder in {"small_cnn", "resnet7"} and card.model.text_encoder == "small_bert"
    return own_encoders and card.data.tokenizer == BUILTIN


def _image(card: ModelCard) -> dict[str, Any]:
    return {
        "tensor": "images",
        "shape": ["batch", 1, card.data.image_size, card.data.image_size],
        "type": "float32",
        "size": card.data.image_size,
        "windowing": [
            "modality LUT, else rescale slope and intercept (DICOM PS3.3 C.11.1)",
            "the first VOI LUT, else the first window, else from the least to the greatest value that is not padding",
            "MONOCHROME1 is inverted; padding is black",
        ],
        "deeper_than_8_bits": "PNG: from the least to the greatest value",
        "colour": "ITU-R BT.601 luminance",
        "resize": "the longer side to `size`, area averaging (box filter)",
        "padding": "centred on black",
        "normalisation": {
            "divide_by": 255,
            "range": [0.0, 1.0],
            # Encoders of folders take mean and deviation from their folder.
            "mean": 0.5 if stands_alone(card) else None,
            "deviation": 0.5 if stands_alone(card) else None,
            "applied_by_the_network": ["mean", "deviation"],
        },
        "encoder": card.model.image_encoder,
        "encoder_sha256": card.image_encoder or None,
    }


def _report(card: ModelCard) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "tensors": ["tokens", "mask"],
        "shape": ["batch", card.data.max_tokens],
        "type": "int64",
        "max_tokens": card.data.max_tokens,
        "encoder": card.model.text_encoder,
        "encoder_sha256": card.text_encoder or None,
        "tokenizer": card.data.tokenizer if card.data.tokenizer == BUILTIN else "folder",
        "tokenizer_sha256": None,
    }

    if card.data.tokenizer == BUILTIN:
        content = VOCABULARY.read_bytes()
        ids = json.loads(content)["model"]["vocab"]
        facts |= {
            "tokenizer_file": VOCABULARY_FILE,
            "tokenizer_sha256": hashlib.sha256(content).hexdigest(),
            "algorithm": "WordPiece after BERT: lower case, accents removed, split at white space and punctuation",
            "special_tokens": {name: ids[name] for name in _SPECIAL},
            "layout": "[CLS] pieces [SEP], cut to `max_tokens`, then [PAD]; mask 1 up to [SEP], 0 after it",
        }

    return facts


def _outputs(card: ModelCard) -> dict[str, Any]:
    return {
        "tensor": "logits",
        "shape": ["branch", "batch", "class"],
        "branches": ["image", "report", "both"],
        "classes": list(card.classes),
        "probabilities": "softmax over the last axis",
    }
