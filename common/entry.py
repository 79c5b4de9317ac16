"""Entry points of the three commands: they check the installation before they import a command.

A command line whose own module was removed or overwritten by another package could not report that itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

from common.errors import FedForgetError
from common.installation import check
from common.printable import printable


def server() -> None:
    """`fedforget-server`."""
    _run("server.cli")


def site() -> None:
    """`fedforget-site`."""
    _run("client.cli")


def simulation() -> None:
    """`fedforget-sim`."""
    missing = [name for name in ("ray", "matplotlib") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"error: simulations need {' and '.join(missing)}: pip install 'fedforget[sim]'\n")
        sys.exit(2)

    _run("simulations.cli")


def _run(module: str) -> None:
    try:
        check()
    except FedForgetError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(error.exit_code)

    if find_spec(module.partition(".")[0]) is None:
        # The wheel of a hospital has no coordinator, and the other way round; the command is still on the path.
        sys.stderr.write(
            "error: this installation does not include that command's code: install the full fedforget wheel\n"
        )
        sys.exit(2)

    import_module(module).app()
