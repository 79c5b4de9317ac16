"""Paths and modules of this repository that the documentation names exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
ROOMS = "client|common|deploy|docs|fedforget|server|simulations|tests"
PATH = re.compile(rf"(?<![\w./:-])(?:{ROOMS})/[\w./-]*[\w/]")
MODULE = re.compile(rf"python -m ((?:{ROOMS})[\w.]*\w)")
LINK = re.compile(r"\]\(([^)#\s]+)")

# `NAME` stands for any name; the page that adds a method names the files that its reader is going to write.
PLACEHOLDERS = ("NAME", "forget_labels")


def code(text: str) -> str:
    """Everything between backticks, in a line or in a block."""
    return "\n".join(match[0] for match in re.finditer(r"```.*?```|`[^`\n]+`", text, flags=re.S))


def missing_paths(text: str) -> set[str]:
    paths = {path for path in PATH.findall(code(text)) if not any(part in path for part in PLACEHOLDERS)}
    return {path for path in paths if not (ROOT / path).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in LINK.findall(text) if not target.startswith(("http:", "https:", "mailto:"))]
    assert missing_paths(text) == set()
    assert [target for target in targets if not (page.parent / target).exists()] == []
    assert [name for name in set(MODULE.findall(text)) if find_spec(name) is None] == []


@pytest.mark.parametrize("stale", ["`server/gateway.py`", "```bash\ncp deploy/gone.conf /etc\n```"])
def test_a_path_that_does_not_exist_is_reported(stale: str) -> None:
    assert len(missing_paths(stale)) == 1
