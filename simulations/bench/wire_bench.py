"""`make bench-wire`: bytes and peak memory of two rounds at four sites, Flower's FedAvg in float32 beside ours.

SuperLink, ServerApp, SuperNodes and ClientApps are real processes on loopback, with TLS, node keys and Flower's SQLite
on disk. Bytes are counted by a relay between SuperNodes and SuperLink, memory is the peak that the kernel noted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client.runtime.supernode import supernode_argv
from client.settings import SiteFolder
from common.errors import UnavailableError
from common.files import write_bytes, write_text
from common.platform.keys.private_keys import new_node_key, new_secret
from common.platform.processes.flower import LOOPBACK, environment
from common.protocol.bundle import Bundle, pack
from server.membership.setup import create_server
from server.runtime.control import Control
from server.runtime.superlink import flower_environment, superexec_argv, superlink_argv
from server.settings import ServerFolder
from simulations.bench.process_memory import resident
from simulations.bench.wire_case import ROUNDS, SITES, VARIABLE, Case, shapes

CASES = (
    Case(name="Flower's FedAvg, fp32", app="baseline"),
    Case(name="FedForget, fp16, nothing frozen", app="lean", precision="fp16"),
    Case(name="FedForget, fp16, 8 of 12 text layers frozen", app="lean", precision="fp16", frozen=8),
    Case(name="FedForget, bf16, nothing frozen", app="lean", precision="bf16"),
)

MANIFEST = """\
[project]
name = "wire-bench"
version = "1.0.0"
description = "Measures transport."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedforget"

[tool.flwr.app.components]
serverapp = "simulations.bench.wire_{app}:server"
clientapp = "simulations.bench.wire_{app}:client"
"""


class Relay:
    """Passes connections on to `target` and counts what goes up (from the sites) and down."""

    def __init__(self, target: int) -> None:
        self.up = self.down = 0
        self._target = target
        self._lock = threading.Lock()
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
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
                with self._lock:
                    setattr(self, way, getattr(self, way) + count)

            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone: the other way ends as well.
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@dataclass
class Peaks:
    """Peak resident memory in bytes by part, looked at until stopped."""

    superlink: int
    """Process id."""
    found: dict[str, int] = field(default_factory=lambda: {"SuperLink": 0, "ServerApp": 0})
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look until `stop`."""
        while not self._stop.wait(0.1):
            self._note("SuperLink", self.superlink)
            for folder in Path("/proc").glob("[0-9]*"):
                if _is_serverapp(folder):
                    self._note("ServerApp", int(folder.name))

    def stop(self) -> None:
        """No more."""
        self._stop.set()

    def _note(self, part: str, process: int) -> None:
        self.found[part] = max(self.found[part], resident(process, "peak") or 0)


def _is_serverapp(folder: Path) -> bool:
    try:
        return b"flwr-serverapp" in (folder / "cmdline").read_bytes()
    except OSError:
        return False


@dataclass
class Figures:
    """What one case took."""

    up: int
    down: int
    superlink: int
    serverapp: int
    seconds: float
    moved: float


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise UnavailableError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.2)


class Bench:
    """One federation for one case, its processes ended and its folder deleted at the end."""

    def __init__(self, root: Path, case: Case) -> None:
        self._root = root
        self._case = case
        self._processes: list[subprocess.Popen[bytes]] = []
        self._note = root / "case.json"
        write_text(self._note, case.model_dump_json())

    def run(self) -> Figures:
        """Start everything, run the app, and measure."""
        folder = ServerFolder(self._root / "server")
        create_server(folder.root, [LOOPBACK], datetime.now(UTC), ("no", "yes"))
        gateway, coordination, superlink, monitor = _ports(4)
        write_text(
            folder.settings_file,
            f'hosts = ["{LOOPBACK}"]\n\n[ports]\nlisten = "{LOOPBACK}"\ngateway = {gateway}\n'
            f"coordination = {coordination}\nsuperlink = {superlink}\nmonitor = {monitor}\n",
        )
        settings = folder.settings()
        env = flower_environment(folder)
        link = self._start("superlink", superlink_argv(folder, settings), env)
        control = Control(f"{LOOPBACK}:{superlink}", folder.ca_certificate.read_bytes())
        relay = Relay(superlink)
        peaks = Peaks(link.pid)
        bundle = pack({"pyproject.toml": MANIFEST.format(app=self._case.app).encode()})

        try:
            _wait(lambda: _answers(control), "SuperLink", 120)
            self._start("superexec", superexec_argv(folder, settings), env)
            for number in range(SITES):
                self._site(f"site-{number + 1}", folder, relay.port, control, bundle)
            _wait(lambda: sum(n.status == "online" for n in control.nodes()) == SITES, "the sites", 300)
            threading.Thread(target=peaks.watch, daemon=True).start()

            return self._measure(control, bundle, relay, peaks)
        finally:
            peaks.stop()
            relay.close()
            control.close()

    def _measure(self, control: Control, bundle: Bundle, relay: Relay, peaks: Peaks) -> Figures:
        up = relay.up
        down = relay.down
        begin = time.monotonic()
        run, _ = control.start(bundle, {}, None)
        _wait(lambda: control.status(run).status == "finished", "the end of the run", 3600)
        seconds = time.monotonic() - begin
        marker = self._note.with_suffix(".done")
        if not marker.exists():
            raise UnavailableError(f"{self._case.name}: the run ended as {control.status(run)}, see its log")
        return Figures(
            up=relay.up - up,
            down=relay.down - down,
            superlink=peaks.found["SuperLink"],
            serverapp=peaks.found["ServerApp"],
            seconds=seconds,
            moved=float(marker.read_text().split()[0]),
        )

    def _site(self, name: str, server: ServerFolder, gateway: int, control: Control, bundle: Bundle) -> None:
        (port, monitor), folder = _ports(2), SiteFolder(self._root / name)
        new_node_key(folder.node_key)
        new_secret(folder.supernode_secret)
        folder.flower_home.mkdir()
        write_bytes(folder.ca_certificate, server.ca_certificate.read_bytes())
        write_text(
            folder.settings_file,
            f'name = "{name}"\ngateway = "{LOOPBACK}:{gateway}"\ncoordination = "{LOOPBACK}:1"\nca_fingerprint = "-"\n'
            f'approved_bundles = ["{bundle.digest}"]\n\n[ports]\nsupernode = {port}\nmonitor = {monitor}\n',
        )
        control.register_node(folder.node_key.with_name("node.pub").read_bytes(), name)
        self._start(f"{name}-supernode", supernode_argv(folder, folder.settings()), environment(folder.flower_home))
        self._start(
            f"{name}-launcher", [sys.executable, "-P", "-m", "client.runtime.launcher", "--dir", str(folder.root)], {}
        )

    def _start(self, name: str, argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._root / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **env, VARIABLE: str(self._note)},
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End all processes, the latest first."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(control: Control) -> bool:
    try:
        control.nodes()
    except UnavailableError:
        return False

    return True


def measure(case: Case, keep: Path | None = None) -> Figures:
    """One case in a folder of its own; with `keep`, logs of a run that failed are copied there."""
    root = Path(tempfile.mkdtemp(prefix="wire-bench-"))
    bench = Bench(root, case)

    try:
        return bench.run()
    except BaseException:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for log in root.glob("*.log"):
                shutil.copy(log, keep)

        raise
    finally:
        bench.stop()
        shutil.rmtree(root, ignore_errors=True)


def report(found: list[tuple[Case, Figures]], scale: float) -> str:
    """The table."""
    floats = sum(_product(shape) for shape in shapes(scale).values()) / 1e6
    base = found[0][1]
    lines = [
        f"{floats:.1f} M float parameters, {SITES} sites, {ROUNDS} rounds of training, the first whole download"
        " counted; SuperLink with TLS, node keys and SQLite on disk, and the longer lock wait of `superlink.py`,"
        " without which Flower's own FedAvg ends in `database is locked` at this size.",
        "",
        "| | up, MB | down, MB | share of bytes | SuperLink, MiB | ServerApp, MiB | share of memory | s |",
        "|---|---|---|---|---|---|---|---|",
    ]

    for case, one in found:
        memory = (one.superlink + one.serverapp) / (base.superlink + base.serverapp)
        lines.append(
            f"| {case.name} | {one.up / 1e6:.1f} | {one.down / 1e6:.1f} "
            f"| **{(one.up + one.down) / (base.up + base.down):.1%}** "
            f"| {one.superlink / 2**20:.0f} | {one.serverapp / 2**20:.0f} | **{memory:.1%}** | {one.seconds:.0f} |"
        )

    return "\n".join(lines) + "\n"


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def main() -> None:
    """All cases, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.wire_bench")
    parser.add_argument("--scale", type=float, default=1.0, help="share of 110 M parameters")
    parser.add_argument("--write", type=Path, help="Markdown file; its part between the marks is replaced")
    parser.add_argument("--logs", type=Path, help="where the logs of a run that failed go")
    parser.add_argument("--case", type=int, action="append", help="number of a case, from 0; all without")
    arguments = parser.parse_args()
    # As Ctrl-C does: what was started is ended, and its folder deleted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    numbers = arguments.case or list(range(len(CASES)))
    cases = [CASES[number].model_copy(update={"scale": arguments.scale}) for number in numbers]
    rows = []
    for case in cases:
        rows.append((case, measure(case, arguments.logs)))
        sys.stderr.write(f"{case.name}: {rows[-1][1]}\n")

    text = report(rows, arguments.scale)
    sys.stdout.write(text)
    if arguments.write:
        write_text(arguments.write, text)


if __name__ == "__main__":
    main()
