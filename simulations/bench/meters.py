"""Meters of the benches: memory of processes as the kernel counts it, and bytes that pass a relay."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.platform.processes.flower import LOOPBACK


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


class Relay:
    """Forwards connections to the port `target` and counts the bytes up (from the sites) and down."""

    def __init__(self, target: int) -> None:
        self.up = 0
        self.down = 0
        self._target = target
        self._lock = threading.Lock()
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                site, _ = self._listening.accept()
                link = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                return

            threading.Thread(target=self._carry, args=(site, link), daemon=True).start()

    def _carry(self, site: socket.socket, link: socket.socket) -> None:
        with site, link:
            up = threading.Thread(target=self._pass, args=(site, link, "up"), daemon=True)
            up.start()
            self._pass(link, site, "down")
            up.join()

    def _pass(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        buffer = memoryview(bytearray(2**18))
        try:
            while count := source.recv_into(buffer):
                sink.sendall(buffer[:count])
                # Connections have threads of their own, and all add to the same two counters.
                with self._lock:
                    setattr(self, way, getattr(self, way) + count)

            # Half closed only: the other direction may still have bytes to carry.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side closed the connection, so the other direction ends as well.
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@dataclass
class Peaks:
    """Peak resident memory in bytes by part, sampled until stopped."""

    superlink: int
    """Process id."""
    peaks: dict[str, int] = field(default_factory=lambda: {"SuperLink": 0, "ServerApp": 0})
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Sample until `stop` is called."""
        while not self._stop.wait(0.1):
            self._note("SuperLink", self.superlink)
            # ServerApps start and end with the campaigns, so they are looked for anew each time.
            for folder in Path("/proc").glob("[0-9]*"):
                if _is_serverapp(folder):
                    self._note("ServerApp", int(folder.name))

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()

    def _note(self, part: str, process: int) -> None:
        self.peaks[part] = max(self.peaks[part], resident(process, "peak") or 0)


def _is_serverapp(folder: Path) -> bool:
    try:
        return (folder / "comm").read_bytes().strip() == b"flwr-serverapp"
    except OSError:
        return False
