"""ClientApps as processes forked from one that has already loaded the large libraries.

Otherwise every message would cost several seconds of CPU time for imports. The parent is the fork server of
`multiprocessing`: it loads no bundle and no FedForget code, does no work, so that no thread or GPU context is copied,
and never sees a task's token.
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
    "cryptography.x509",
    "cryptography.hazmat.primitives.ciphers.aead",
    "pydantic.dataclasses",
    "pydantic.root_model",
    "pydicom.pixels",
    "sqlite3",
]
"""Imported before the first fork, if installed."""
_HOME = "FEDFORGET_TASK"
"""Environment variable of a ClientApp that names the folder of its task."""
_EXPIRY = "expires"
"""File in that folder: the time after which nobody waits for the answer."""
_OURS = frozenset({"client", "common"})
_FORKING = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Load the libraries now, so that the first ClientApp starts quickly."""
    _FORKING.set_forkserver_preload(_LIBRARIES)
    forkserver.ensure_running()


def start(address: str, token_file: Path, home: Path, variables: Mapping[str, str]) -> BaseProcess:
    """A ClientApp for one task of the SuperNode at `address`, working in `home` with `variables` in its environment.

    It exits when the calling process exits.
    """
    variables = {**variables, _HOME: str(home)}
    process = _FORKING.Process(target=_become, args=(address, str(token_file), str(home), variables))
    process.start()

    return process


def note_expiry(at: datetime) -> None:
    """Tell the launcher how long the answer is wanted. Does nothing outside a ClientApp of `start`."""
    if home := os.environ.get(_HOME):
        write_text(Path(home) / _EXPIRY, at.isoformat())


def expiry(home: Path) -> datetime | None:
    """The time that the ClientApp in `home` noted, or None if it has not yet."""
    try:
        return datetime.fromisoformat((home / _EXPIRY).read_text())
    except FileNotFoundError:
        return None


def _become(address: str, token_file: str, home: str, variables: dict[str, str]) -> None:
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp  # noqa: PLC0415 - only in the forked process

    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    os.chdir(home)
    os.environ.update(variables)
    # Modules loaded so far must not shadow packages of the same names in the bundle.
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.argv = clientapp_argv(address, token_file)
    flwr_clientapp()


def _end_with_the_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
    os.kill(os.getpid(), signal.SIGKILL)
