"""Keeps a process from reading files that it does not need, e.g. signing keys: by the kernel, and in Python itself.

In a mount namespace of its own (mount_namespaces(7)) the files are covered; where the kernel allows none, only Python's
audit hook (PEP 578) refuses to open them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Literal

_NEW_USER = 0x10000000
_NEW_MOUNTS = 0x00020000
_BIND = 4096
_RECURSIVE = 16384
_PRIVATE = 1 << 18

_log = logging.getLogger("fedforget.console")


def hide(paths: Collection[Path]) -> Literal["kernel", "interpreter"]:
    """Hide files, and folders with everything in them, from this process and its children until it ends.

    Call it before the first thread starts. Returns what enforces it.
    """
    present = [path.resolve() for path in paths if path.exists()]
    by_kernel = _covered(present)
    _refuse(tuple(str(path.resolve()) for path in paths))
    if not by_kernel:
        _log.warning("the kernel allows no mount namespace: only Python keeps the console from reading keys")
    return "kernel" if by_kernel else "interpreter"


def _covered(paths: Collection[Path]) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    user = os.geteuid()
    group = os.getegid()
    if libc.unshare(_NEW_USER | _NEW_MOUNTS) != 0:
        return False

    try:
        # user_namespaces(7): without privileges a group can be mapped only after `setgroups` is denied.
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    except OSError:
        return False

    # Private first, or the covers would spread to the mounts of other processes.
    if libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None) != 0:
        return False
    covers = [
        libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"mode=0500,size=4k")
        if path.is_dir()
        else libc.mount(b"/dev/null", os.fsencode(path), None, _BIND, None)
        for path in paths
    ]

    return not any(covers)


def _refuse(hidden: tuple[str, ...]) -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not arguments or not isinstance(arguments[0], (str, bytes)):
            return
        # By the real path: a link elsewhere must not lead to a hidden file.
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if any(path == one or path.startswith(f"{one}{os.sep}") for one in hidden):
            raise PermissionError(13, "the console may not read keys")

    sys.addaudithook(hook)
