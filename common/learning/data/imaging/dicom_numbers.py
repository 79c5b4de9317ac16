"""Numbers in DICOM headers as devices write them: decimal commas, several values, blanks, text."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def decimals(dataset: Dataset, keyword: str) -> list[float]:
    """The values of a decimal string (DS); `2048,5` is `2048.5`, since DS has no thousands separator (PS3.5 6.2).

    Raises:
        ValueError: one of them is no finite number. The message holds nothing of the file.
    """
    if keyword not in dataset:
        return []
    value: Any = dataset.get_item(keyword).value  # as it lies in the file: pydicom raises on a comma
    if isinstance(value, bytes):
        parts = value.decode("ascii", "replace").replace("\0", " ").split("\\")
    elif isinstance(value, MultiValue | list):
        parts = [str(part) for part in value]
    else:
        parts = [] if value is None else [str(value)]

    return [_number(part) for part in parts if part.strip()]


def _number(text: str) -> float:
    try:
        number = float(text.strip().replace(",", ".", 1))
    except ValueError:
        raise ValueError("not a decimal number") from None

    if not math.isfinite(number) or "_" in text:
        raise ValueError("not a finite decimal number")
    return number


def first_decimal(dataset: Dataset, keyword: str) -> float | None:
    """The first of the values, or None when there is none or one of them is not a number."""
    try:
        values = decimals(dataset, keyword)
    except ValueError:
        return None

    return values[0] if values else None
