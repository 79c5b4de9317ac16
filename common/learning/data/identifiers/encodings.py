"""Texts read in another encoding than they were written in: what they become, and how to restore them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

_CODECS = ("utf-8", "cp1252", "latin-1", "iso8859-15", "cp1250", "cp1251", "mac-roman", "cp850", "cp437")
# Pairs of the encoding in which a text was written and the one in which it was read.
_WRONGLY_READ = tuple(permutations(_CODECS, 2))
_DEEPEST_REPAIR = 3


def misreadings(text: str) -> Iterator[str]:
    """All texts that this one becomes, or was, when it is read in the wrong encoding."""
    if text.isascii():
        return
    variants = {text}
    for source, read in _WRONGLY_READ:
        if (variant := _recoded(text, source, read)) is not None and variant not in variants:
            variants.add(variant)
            yield variant


def repaired(text: str) -> Iterator[str]:
    """Undo, step by step, one or several readings of UTF-8 as Windows-1252."""
    for _ in range(_DEEPEST_REPAIR):
        repair = _recoded(text, "cp1252", "utf-8") or _recoded(text, "latin-1", "utf-8")
        if repair is None or repair == text:
            return
        yield (text := repair)


def _recoded(text: str, written: str, read: str) -> str | None:
    try:
        return text.encode(written).decode(read)
    except UnicodeError:
        return None
