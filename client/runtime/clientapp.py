"""ClientApps as processes that are forked from one in which the large libraries are loaded already.

A hospital's machine would otherwise spend several seconds of a core on imports for every message. The process that is
forked from is the fork server of `multiprocessing`: it loads nothing of a bundle and nothing of ours, does no work of
its own, so that no thread and no GPU context is copied, and never sees a task's token.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from client.runtime.supernode import clientapp_argv
from common.files import write_text

_LIBRARIES = [
    "torch",
    "sklearn.metrics",
    "sklearn.svm",
    "transformers.models.bert.modeling_bert",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "flwr.clientapp",
    "flwr.supernode.cli.flwr_clientapp",
]
"""Imported before the first fork, as far as they are installed."""
_HOME = "FEDFORGET_TASK"
"""Names the folder of the task in the ClientApp's environment."""
_EXPIRY = "expires"
"""File in that folder: from when on nobody waits for the answer."""
_OURS = frozenset({"client", "common"})
_FORKING = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Load the libraries now, so that the first ClientApp does not wait for them."""
    _FORKING.set_forkserver_preload(_LIBRARIES)
    forkserver.ensure_running()


def start(address: str, token_file: Path, home: Path, variables: Mapping[str, str]) -> BaseProcess:
    """A ClientApp for one task of the SuperNode at `address`, working in `home` with `variables` in its environment.

    It ends when the process that called this ends.
    """
    variables = {**variables, _HOME: str(home)}
    process = _FORKING.Process(target=_become, args=(address, str(token_file), str(home), variables))
    process.start()

    return process


def note_expiry(at: datetime) -> None:
    """Called in a ClientApp of `start`, elsewhere it does nothing: tell the launcher how long the answer is wanted."""
    if home := os.environ.get(_HOME):
        write_text(Path(home) / _EXPIRY, at.isoformat())


def expiry(home: Path) -> datetime | None:
    """What the ClientApp that works in `home` noted, None as long as it has not."""
    try:
        return datetime.fromisoformat((home / _EXPIRY).read_text())
    except FileNotFoundError:
        return None


def _become(address: str, token_file: str, home: str, variables: dict[str, str]) -> None:
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp  # noqa: PLC0415 - only in the forked process

    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    os.chdir(home)
    os.environ.update(variables)
    # What brought us here must not stand in for packages of the same names in the bundle.
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.argv = clientapp_argv(address, token_file)
    flwr_clientapp()


def _end_with_the_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
    os.kill(os.getpid(), signal.SIGKILL)
