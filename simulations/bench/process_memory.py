"""Memory of a process as the kernel counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def resident(process: int | Literal["self"], which: Literal["now", "peak"]) -> int | None:
    """Bytes in memory now, or at most since the process started; None if it is gone, or the system is not Linux.

    Not `getrusage`: what it tells of a child begins with the peak of the process that started it.
    """
    name = "VmRSS:" if which == "now" else "VmHWM:"

    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None

    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name)), None)
