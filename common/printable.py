"""Text of others on a terminal: what a site, a file or a server wrote is shown, and commands the terminal nothing.

Escape sequences, line breaks and marks that turn the writing direction could rewrite what was printed before them
(https://unicode.org/reports/tr36/, https://trojansource.codes/). Everything that is printed goes through here: by
`common.platform.terminal.console`, the logs of `up`, and the stand-alone verifier, which holds this file too.
"""

from __future__ import annotations

import unicodedata

_SPACE = "Zs"
"""Category of the spaces within a line."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with all but letters, marks, numbers, symbols and spaces escaped as Python writes it, such as `\x1b`.

    Escaped are control characters (C0, C1), format characters (bidirectional, zero width, tags), line and paragraph
    separators, surrogates, and code points that are private or not assigned.

    Args:
        text: one line, of whoever wrote it.
        lines: `text` is several lines of ours: their ends stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) or (lines and char == "\n") else _escaped(char) for char in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == _SPACE


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
