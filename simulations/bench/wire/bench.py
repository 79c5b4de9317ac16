"""`make bench-wire`: bytes and peak memory of two rounds at four sites, Flower's FedAvg beside FedForget.

SuperLink, ServerApp, SuperNodes and ClientApps are real processes on loopback, with TLS, node keys and Flower's SQLite
on disk. A relay between SuperNodes and SuperLink counts the bytes; the kernel reports peak memory.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
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
from simulations.bench.meters import Peaks, Relay
from simulations.bench.wire.case import ROUNDS, SITES, VARIABLE, Case, shapes

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
serverapp = "simulations.bench.wire.{app}:server"
clientapp = "simulations.bench.wire.{app}:client"
"""


@dataclass
class Figures:
    """Bytes, peak memory and seconds of one case, and how far its model moved."""

    up: int
    down: int
    superlink: int
    serverapp: int
    seconds: float
    distance: float


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    # All are open at once, so that the system gives different ones.
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
    """The federation of one case, with all its processes."""

    def __init__(self, root: Path, case: Case) -> None:
        self._root = root
        self._case = case
        self._processes: list[subprocess.Popen[bytes]] = []
        self._note = root / "case.json"
        write_text(self._note, case.model_dump_json())

    def run(self) -> Figures:
        """Start all processes, run the app and measure it."""
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
        # What the sites sent to register and to wait is not the run's.
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
            superlink=peaks.peaks["SuperLink"],
            serverapp=peaks.peaks["ServerApp"],
            seconds=seconds,
            distance=float(marker.read_text().split()[0]),
        )

    def _site(self, name: str, server: ServerFolder, gateway: int, control: Control, bundle: Bundle) -> None:
        port, monitor = _ports(2)
        folder = SiteFolder(self._root / name)
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
        """Stop all processes, the latest first."""
        # All are asked first, and end at the same time; then each is waited for.
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
    """Measure a case in a temporary folder; if it fails, copy its logs to `keep`."""
    # Deleted by hand: after a failure, its logs are copied first.
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


def report(results: list[tuple[Case, Figures]], scale: float) -> str:
    """Format the table as Markdown."""
    floats = sum(prod(shape) for shape in shapes(scale).values()) / 1e6
    base = results[0][1]
    lines = [
        f"{floats:.1f} M float parameters, {SITES} sites, {ROUNDS} rounds of training, the first whole download"
        " counted; SuperLink with TLS, node keys and SQLite on disk, and the longer lock wait of `superlink.py`,"
        " without which Flower's own FedAvg ends in `database is locked` at this size.",
        "",
        "| | up, MB | down, MB | share of bytes | SuperLink, MiB | ServerApp, MiB | share of memory | s |",
        "|---|---|---|---|---|---|---|---|",
    ]

    for case, one in results:
        memory = (one.superlink + one.serverapp) / (base.superlink + base.serverapp)
        lines.append(
            f"| {case.name} | {one.up / 1e6:.1f} | {one.down / 1e6:.1f} "
            f"| **{(one.up + one.down) / (base.up + base.down):.1%}** "
            f"| {one.superlink / 2**20:.0f} | {one.serverapp / 2**20:.0f} | **{memory:.1%}** | {one.seconds:.0f} |"
        )

    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the cases and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.wire.bench")
    parser.add_argument("--scale", type=float, default=1.0, help="share of 110 M parameters")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    parser.add_argument("--logs", type=Path, help="folder for the logs of failed runs")
    parser.add_argument(
        "--case", type=int, action="append", help="number of a case, from 0; repeat for several (default: all)"
    )
    arguments = parser.parse_args()
    # Exit as on Ctrl-C, so that all processes stop and the temporary folder is deleted.
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
