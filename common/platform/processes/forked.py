"""Processes forked from one that has already loaded the large libraries and our own modules.

Otherwise each would spend seconds of CPU time on imports. The parent is the fork server of `multiprocessing`: it does
no work, so that no thread or GPU context is copied, and it never sees what a fork is given.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from common.platform.processes import own_code

_FORKING = multiprocessing.get_context("forkserver")
_NAME = Path("/proc/self/comm")


def prepare(libraries: Sequence[str], own: Sequence[str]) -> None:
    """Load `libraries` and our `own` modules, as far as they are installed, before the first fork."""
    _FORKING.set_forkserver_preload([*libraries, own_code.__name__, *own])
    forkserver.ensure_running()


def start(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that does `work`, a function at the top of a module other than the one that is run."""
    process = _FORKING.Process(target=work, args=arguments)
    process.start()

    return process


def take_name(name: str) -> None:
    """Show this process as `name`, of at most 15 bytes, in `ps` and `top`: its command line is the fork server's."""
    _NAME.write_text(name, encoding="ascii")
