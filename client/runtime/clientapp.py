"""ClientApps as processes forked from one that has already loaded the large libraries and FedForget.

Otherwise every message would cost several seconds of CPU time for imports. The parent loads no bundle and never sees a
task's token. A ClientApp keeps FedForget's modules only if its bundle is that of this installation: a bundle with code
of its own finds none of ours loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from client.runtime.supernode import clientapp_argv
from common.files import write_text
from common.platform.processes import forked, own_code

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
_OWN = [
    "client.cohort.site",
    "client.membership.trust",
    "common.platform.processes.structured_log",
    "client.membership.approval",
    "client.process",
    "client.runtime.clientapp",
]
"""What `client.app` imports, and the launcher, which Python runs in each fork as its main module. `client.app` itself
checks the installation as it is loaded, for each message."""
_HOME = "FEDFORGET_TASK"
"""Environment variable of a ClientApp that names the folder of its task."""
_EXPIRY = "expires"
"""File in that folder: the time after which nobody waits for the answer."""


def prepare() -> None:
    """Load all that a ClientApp needs now, so that the first one starts quickly."""
    forked.prepare(_LIBRARIES, _OWN)


def start(
    address: str, token_file: Path, home: Path, variables: Mapping[str, str], *, is_ours: bool = False
) -> BaseProcess:
    """A ClientApp for one task of the SuperNode at `address`, working in `home` with `variables` in its environment.

    `is_ours` says that its bundle is that of this installation, and holds no code. It exits when the calling process
    exits.
    """
    variables = {**variables, _HOME: str(home)}
    return forked.start(_become, address, str(token_file), str(home), variables, is_ours)


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


def _become(address: str, token_file: str, home: str, variables: dict[str, str], is_ours: bool) -> None:
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp  # noqa: PLC0415 - only in the forked process

    # Forked from another process, it would not notice that the launcher was killed.
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    forked.take_name("flwr-clientapp")
    os.chdir(home)
    os.environ.update(variables)
    # Modules loaded so far must not shadow packages of the same names in the bundle.
    own_code.keep_or_drop(keep=is_ours)
    sys.argv = clientapp_argv(address, token_file)
    flwr_clientapp()


def _end_with_the_launcher() -> None:
    launcher = parent_process()
    if launcher is not None:
        launcher.join()
    # SIGKILL, as an exit would only end this thread.
    os.kill(os.getpid(), signal.SIGKILL)
