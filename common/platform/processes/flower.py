"""How Flower's processes are started on both sides: which executable, and which environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
_SCRIPTS = Path(sys.executable).parent


def executable(name: str) -> str:
    """Flower's command of that name in the environment that runs now, whatever `PATH` says."""
    return str(_SCRIPTS / name)


def environment(home: Path) -> dict[str, str]:
    """Variables for a Flower process that keeps its files in `home`: it calls nobody and installs nothing.

    `PATH` begins with the environment that runs now, for Flower starts its own commands by name.
    """
    return {
        "PATH": f"{_SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
