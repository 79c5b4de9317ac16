"""The text of a table or a list, whichever program wrote it: encodings, gzip, and what is not text at all.

What can be read without guessing is read. Anything else is refused in a line that names what was found.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from common.errors import ManifestError

MOST_UNPACKED = 2**30
"""Bytes of a compressed table."""
_SAVE_AS = "save it as CSV UTF-8"
# Byte-order marks; that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP file, not CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook, not CSV"),
    (b"%PDF", "a PDF file, not CSV"),
)
_WORD = re.compile(r"[^\W\d_]+")
_THREE_ACCENTS = re.compile(r"[^\x00-\x7f]{3}")
# Signs of Windows-1252 that stand outside of words.
_SIGNS = frozenset("€‚„…‘’“”–—§°µ·\u00a0")
# Where a sign stands in a word, another encoding has a letter there.
_SIGN_FOR_LETTER = re.compile(r"(?<=[^\W\d_])[€‚„…‘“”§°·](?=[^\W\d_])|[€…§](?=[^\W\d_])")

IsTable = Callable[[str], bool]


def read_bytes(path: Path) -> bytes:
    """Content of a file; raises a `ManifestError` that names it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ManifestError("no such file", where=str(path), remedy="check the path") from None
    except OSError as err:
        raise ManifestError(f"cannot be read: {err.strerror}", where=str(path), remedy="check the path") from None


def decoded(content: bytes, source: str, is_table: IsTable, *, most: int = MOST_UNPACKED) -> str:
    """Text of a file, unpacked if it is compressed.

    UTF-8, or UTF-16 and UTF-32 with a byte-order mark; Windows-1252 where nothing else can be meant.

    Args:
        content: of the file.
        source: names it in an error.
        is_table: whether a text begins with a heading that is known; without it Windows-1252 is not read.
        most: bytes of a compressed file's content.

    Raises:
        ManifestError: it is no text that can be read without guessing.
    """
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(content, source, most)
    for start, kind in _OTHER_FILES:
        if content.startswith(start):
            raise ManifestError(kind, where=source, remedy=_SAVE_AS)

    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strictly(content, encoding, source)

    # Text holds no zero byte; in UTF-16 every second byte of Latin letters is one.
    if b"\0" in content[:4096]:
        halves = content[:4096:2].count(0), content[1:4096:2].count(0)
        kind = "UTF-16 text without a byte-order mark" if max(halves) > len(content[:4096]) // 4 else "not text"
        raise ManifestError(kind, where=source, remedy=_SAVE_AS)

    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as err:
        row = err.object.count(b"\n", 0, err.start) + 1

    return _western(content, f"{source} row {row}", is_table)


def _strictly(content: bytes, encoding: str, source: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        name = encoding.removesuffix("-sig").upper()
        problem = f"damaged: it begins as {name} text and goes on as something else"
        raise ManifestError(problem, where=source, remedy=_SAVE_AS) from None


def _western(content: bytes, place: str, is_table: IsTable) -> str:
    """Windows-1252, if every sign is one that other single-byte encodings of the West do not mean otherwise."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        problem = "not UTF-8 text, but an encoding that cannot be told, such as Mac OS Roman or code page 850"
        raise ManifestError(problem, where=place, remedy=_SAVE_AS) from None

    if is_table(text) and _is_western(text):
        return text
    raise ManifestError("not UTF-8 text, but probably Windows-1252", where=place, remedy=_SAVE_AS)


def _is_western(text: str) -> bool:
    """Whether no other encoding can be meant: of the letters that Windows-1252 and ISO 8859-1 share, in usual words.

    Words of letters with accents alone are Cyrillic or Greek that was read wrongly.
    """
    signs = {sign for sign in text if sign > "\x7f"} - _SIGNS
    if any(not ("\u00c0" <= sign <= "\u00ff" and sign.isalpha()) for sign in signs):
        return False
    words = {word for word in _WORD.findall(text) if not word.isascii()}
    if any(_THREE_ACCENTS.search(word) or not any(map(str.isascii, word)) for word in words):
        return False
    return _SIGN_FOR_LETTER.search(text) is None


def _unpacked(content: bytes, source: str, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            # One byte more than allowed tells a file that is too large, without unpacking all of it.
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error):
        raise ManifestError("a damaged gzip file", where=source, remedy="compress it again") from None

    if len(data) > most:
        raise ManifestError(f"more than {most} bytes when unpacked", where=source, remedy="divide it")
    return data
