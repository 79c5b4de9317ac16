"""Create a folder whole or not at all, and never replace another one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.disk import unwritable
from common.errors import OutputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` if the block succeeds and is removed otherwise.

    Raises:
        OutputError: `path` has content already, or cannot be written.
    """
    path = path.absolute()
    _refuse_content(path)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same parent, as a rename is atomic only within one file system.
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as err:
        raise unwritable(err, path, remedy="choose another folder") from err

    try:
        yield part
        try:
            # A rename onto an empty folder replaces it; onto one that was filled meanwhile it fails.
            os.replace(part, path)
        except OSError:
            _refuse_content(path)
            raise
    except OSError as err:
        raise unwritable(err, path) from err
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_content(path: Path) -> None:
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise OutputError(
            "exists already and is not empty", where=str(path), remedy="nothing is overwritten: choose another folder"
        )
