"""How a radiograph and a report become what the network reads: needs torch, and Pillow for files of images."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

LONGEST_WORD = 100
IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


def read_image(path: str | Path, size: int) -> Tensor:
    """A file as `[1, 1, size, size]` in [0, 1]: grey, its aspect kept, averaged to fit, centred on black."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - not for those who bring tensors

    image: Image.Image = ImageOps.exif_transpose(Image.open(path))

    if image.mode.startswith(("I", "F")):  # deeper than 8 bits: scaled from its least to its greatest value
        deep = image.convert("F")
        low, high = (float(value) for value in deep.getextrema())  # type: ignore[arg-type] # one channel
        scale = 255.0 / ((high - low) or 1.0)
        image = deep.point(lambda value: value * scale - low * scale + 0.5)

    grey = image.convert("L") if image.mode in {"F", "L"} else image.convert("RGB").convert("L")
    longest = max(grey.size)
    width, height = (max(1, round(side * (size / longest))) for side in grey.size)
    square = Image.new("L", (size, size))
    square.paste(grey.resize((width, height), Image.Resampling.BOX), ((size - width) // 2, (size - height) // 2))
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)

    return pixels.view(1, 1, size, size).float() / 255.0


def tokenize(text: str, vocabulary: Path, length: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, each `[1, length]`, by the word pieces in `vocabulary.json`: `[CLS]` first, `[SEP]` last."""
    ids = json.loads(vocabulary.read_text(encoding="utf-8"))["model"]["vocab"]
    pieces = [ids[piece] for word in _words(text) for piece in _pieces(word, ids)]
    row = [ids["[CLS]"], *pieces[: length - 2], ids["[SEP]"]]
    padding = length - len(row)
    tokens = torch.tensor([row + [ids["[PAD]"]] * padding])

    return tokens, torch.tensor([[1] * len(row) + [0] * padding])


def _words(text: str) -> Iterator[str]:
    """Lower case without accents, split at white space and around punctuation and ideographs, as BERT does."""
    text_without_controls = "".join(_cleaned(char) for char in text)
    plain = (char for char in unicodedata.normalize("NFD", text_without_controls) if unicodedata.category(char) != "Mn")
    word = ""

    for char in "".join(plain).lower() + " ":
        alone = _is_punctuation(char)
        if char == " " or alone:
            yield from [word] if word else []
            word = ""
            yield from [char] if alone else []
        else:
            word += char


def _cleaned(char: str) -> str:
    kind = unicodedata.category(char)[0]
    if char in "\t\n\r" or kind == "Z":
        return " "
    if kind == "C" or ord(char) == 0xFFFD:
        return ""
    return f" {char} " if any(low <= ord(char) <= high for low, high in IDEOGRAPHS) else char


def _is_punctuation(char: str) -> bool:
    ascii_symbol = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return ascii_symbol or unicodedata.category(char).startswith("P")


def _pieces(word: str, ids: dict[str, int]) -> list[str]:
    """The longest pieces that are in the vocabulary, from the left."""
    pieces: list[str] = []
    begin = 0

    while begin < len(word):
        prefix = "##" if begin else ""
        ends = range(len(word), begin, -1)
        end = next((end for end in ends if prefix + word[begin:end] in ids), None)
        if end is None or len(word) > LONGEST_WORD:
            return ["[UNK]"]
        pieces.append(prefix + word[begin:end])
        begin = end

    return pieces
