"""Safe output of untrusted text: what a site, a file or a server wrote is shown, but cannot control the terminal.

Escape sequences, line breaks and marks that change the writing direction could rewrite what was printed before them
(https://unicode.org/reports/tr36/, https://trojansource.codes/). All output goes through here: that of
`common.platform.terminal.console`, the logs of `up`, and the stand-alone verifier, which includes this file.
"""

from __future__ import annotations

import unicodedata

# Category of the spaces within a line.
_SPACE = "Zs"


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with all but letters, marks, numbers, symbols and spaces escaped as Python writes it, such as `\x1b`.

    Escaped are control characters (C0, C1), format characters (bidirectional, zero width, tags), line and paragraph
    separators, surrogates, and code points that are private or unassigned.

    Args:
        text: one line, from any author.
        lines: `text` is several lines of our own; their line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) or (lines and char == "\n") else _escaped(char) for char in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == _SPACE


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
