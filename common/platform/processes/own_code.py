"""Our own modules in a process that others are forked from: kept in a fork only while they are those on disk.

An upgrade replaces files under a process that has loaded the old ones. So the state of all files is taken before any is
loaded, and a fork that finds another state drops what it inherited and loads the new files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.installation import PACKAGES

_ROOT = Path(__file__).resolve().parents[3]

FileState = tuple[str, int, int, int, int]
"""Name, inode, bytes, and the times of the last change of content and of the entry, in ns. Nobody can set the last."""


def state_of_files(root: Path = _ROOT) -> frozenset[FileState]:
    """The state of every module of our packages below `root`."""
    states = []
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            entry = path.stat()
            states.append((str(path), entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns))

    return frozenset(states)


_LOADED = state_of_files()


def keep_or_drop(*, keep: bool) -> bool:
    """Keep our modules if that is asked for and none has changed on disk; else unload them. Whether they were kept."""
    if keep and state_of_files() == _LOADED:
        return True
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]

    return False
