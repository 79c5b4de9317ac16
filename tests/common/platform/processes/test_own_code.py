"""A fork keeps our modules while they are those on disk, and loads them anew as soon as one is another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.platform.processes.own_code import state_of_files


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return write(tmp_path / "client" / "cohort" / "site.py", "AGE = 1\n")


def rewrite_with_its_old_date(path: Path) -> None:
    before = path.stat()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    path.write_text("AGE = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = write(path.with_name("other"), "AGE = 2\n")
    other.rename(path)


@pytest.mark.parametrize(
    "change",
    [
        rewrite_with_its_old_date,
        replace,
        Path.unlink,
        lambda path: write(path.with_name("new.py"), ""),
        lambda path: write(path.parents[2] / "common" / "new.py", ""),
    ],
    ids=["rewritten", "replaced", "removed", "added", "another package"],
)
def test_any_change_of_a_module_is_seen(module: Path, change: Callable[[Path], None]) -> None:
    before = state_of_files(module.parents[2])
    assert state_of_files(module.parents[2]) == before
    change(module)
    assert state_of_files(module.parents[2]) != before


def test_files_that_are_no_modules_of_ours_do_not_count(module: Path) -> None:
    root = module.parents[2]
    before = state_of_files(root)
    write(root / "client" / "__pycache__" / "site.cpython-311.pyc", "")
    write(root / "elsewhere" / "site.py", "")
    assert state_of_files(root) == before


IN_A_PROCESS = """
import sys
import common.errors
from common.platform.processes import own_code
own_code._LOADED = own_code._LOADED if {same} else frozenset()
print(own_code.keep_or_drop(keep={keep}), "common.errors" in sys.modules, "common" in sys.modules)
"""


@pytest.mark.parametrize(
    ("same", "keep", "result"),
    [(True, True, "True True True"), (False, True, "False False False"), (True, False, "False False False")],
    ids=["unchanged", "changed on disk", "a foreign bundle"],
)
def test_modules_are_unloaded_unless_they_are_wanted_and_unchanged(same: bool, keep: bool, result: str) -> None:
    code = IN_A_PROCESS.format(same=same, keep=keep)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == result
