"""The words of FedForget itself: whatever its code can say, and none that a hospital, a file or a patient brought."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ("common", "client", "server")
EDGES = "()[]{}<>\"'`,.;:!?…=|"
"""Marks around a word that do not belong to it."""
_LIKE_AN_IDENTIFIER = re.compile(r"@|\d\D*\d\D*\d\D*\d")
"""An example of a receipt, a number or an address in our help is no word."""
_BUILDING = re.compile(r"[\\^$*+?{}\[\]|()]")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words, and the modules and functions that a traceback may name."""

    words: frozenset[str]
    modules: frozenset[str]
    functions: frozenset[str]


@cache
def own_vocabulary() -> Vocabulary:
    """Read once, from the texts in the installed code; takes about a second."""
    words: set[str] = set(dir(builtins))
    modules: set[str] = set()
    functions: set[str] = {"<module>", "<lambda>"}

    for path in _sources():
        modules |= {path.name, f"{path.parent.name}/{path.name}"}
        tree = ast.parse(path.read_bytes())
        # What stands alone is a docstring, which nothing prints and which may cite people.
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= set(_words(node.value))
            elif isinstance(node, ast.ClassDef):
                words.add(node.name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.add(node.name)

    return Vocabulary(frozenset(words), frozenset(modules), frozenset(functions))


def _sources() -> Iterator[Path]:
    for package in _PACKAGES:
        yield from (_ROOT / package).rglob("*.py")


def _words(text: str) -> Iterator[str]:
    """Words that are more than digits; those of a pattern for Flower's lines, without the marks of the pattern."""
    for chunk in (*text.split(), *_BUILDING.sub(" ", text).split()):
        word = chunk.strip(EDGES)
        plain = word.isascii() and len(word) <= 60 and re.search(r"[A-Za-z]", word) is not None
        if plain and not _LIKE_AN_IDENTIFIER.search(word):
            yield word
