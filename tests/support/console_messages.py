"""Every message of the consoles that a person can see: from templates, from code, and from tables of words."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from babel.messages.extract import extract
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[2]
_KEYWORDS: Mapping[str, tuple[int, ...] | None] = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "text": (1,),
    "texts": (1, 2),
    "_Refusal": (2,),
    "RefusedError": (1,),
    "InputError": (1,),
    "UnavailableError": (1,),
}
_RAISED = ("RefusedError", "InputError", "UnavailableError")


def messages(folder: Path) -> set[str]:
    """Messages of the templates and the code below `folder`."""
    found: set[str] = set()
    options = {"trimmed": "true", "extensions": "jinja2.ext.do", "silent": "false"}

    for path in sorted(folder.rglob("*")):
        method = {".j2": "jinja2.ext:babel_extract", ".py": "python"}.get(path.suffix)
        if method is None:
            continue
        with io.BytesIO(path.read_bytes()) as file:
            extracted = extract(method, file, _KEYWORDS, (), options if path.suffix == ".j2" else {})
            for _, message, _, _ in extracted:
                one = message if isinstance(message, str) else message[0]
                if one and one.strip():
                    found.add(one)

    return found


def untranslated(language: str, wanted: Iterable[str], *catalogues: Path) -> set[str]:
    """The messages that no catalogue translates."""
    known = set[str]()
    for folder in catalogues:
        with (folder / f"{language}.po").open("rb") as file:
            for message in read_po(file, locale=language):
                texts = message.string if isinstance(message.string, tuple) else (message.string,)
                if message.id and all(texts) and not message.fuzzy:
                    known.add(message.id if isinstance(message.id, str) else message.id[0])

    return {*wanted} - known
