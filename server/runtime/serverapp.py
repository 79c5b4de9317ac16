"""ServerApps as processes forked from one that has already loaded the large libraries and FedForget.

As a new program, one imports for seconds before it asks the first hospital, and shows its token to everybody who may
list the processes of the machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from common.platform.processes import forked, own_code

_LIBRARIES = [
    "torch",
    "transformers.models.bert.modeling_bert",
    "flwr.serverapp",
    "flwr.superlink.cli",
    "flwr.supercore.superexec.run_superexec",
]
_OWN = ["server.app", "server.runtime.serverapp"]
"""Imported before the first fork, as far as they are installed."""


def prepare() -> None:
    """Load all that a ServerApp needs now, so that the first one starts quickly."""
    forked.prepare(_LIBRARIES, _OWN)


def start(arguments: Sequence[str], *, silent: bool) -> BaseProcess:
    """A process that is `flwr-serverapp` with these `arguments`; `silent` drops what it prints."""
    return forked.start(_become, tuple(arguments), silent)


def _become(arguments: tuple[str, ...], silent: bool) -> None:
    from flwr.superlink.cli import flwr_serverapp  # noqa: PLC0415 - only in the forked process

    forked.take_name("flwr-serverapp")
    own_code.keep_or_drop(keep=True)
    if silent:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    sys.argv = ["flwr-serverapp", *arguments]
    flwr_serverapp()
