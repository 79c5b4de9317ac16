"""Executables and environment of Flower's processes, for both sides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
_SCRIPTS = Path(sys.executable).parent


def executable(name: str) -> str:
    """Path of a Flower command in the current Python environment, whatever `PATH` says."""
    return str(_SCRIPTS / name)


def environment(home: Path) -> dict[str, str]:
    """Variables for a Flower process with its files in `home`: no telemetry, no update check, no installation.

    `PATH` starts with the current Python environment, as Flower starts its own commands by name.
    """
    return {
        "PATH": f"{_SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
