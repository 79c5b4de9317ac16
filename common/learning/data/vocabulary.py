"""Path of the vocabulary shipped with the package, for modules that do not read it."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "builtin"
VOCABULARY = Path(__file__).with_name("wordpiece.json")
WORDS = "words"
"""Names hashed words in place of a vocabulary."""
