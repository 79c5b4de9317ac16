"""Programs of `deploy/` have no ending that a linter or a type checker would find."""

from __future__ import annotations

from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAMS = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and not path.suffix and path.read_bytes().startswith(b"#!/usr/bin/env python3")
)


def test_there_are_programs_to_check() -> None:
    assert {"console-demo", "local-federation"} <= {path.name for path in PROGRAMS}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_a_program_is_valid_for_the_oldest_python(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")
