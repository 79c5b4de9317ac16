"""The word pieces that are shipped with the package: where they are, for those who do not read them."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "builtin"
VOCABULARY = Path(__file__).with_name("wordpiece.json")
