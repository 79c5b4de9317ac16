"""A link from the documentation to the code becomes the name of the file: the site holds the documentation alone."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with each page's text before it is rendered."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def plain(link: re.Match[str]) -> str:
        text, target = link.groups()
        leaves = target.count("../") > depth
        return f"{text} (`{target.replace('../', '')}`)" if leaves else link.group()

    return _LINK.sub(plain, markdown)
