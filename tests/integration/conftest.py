"""A real coordinator and real hospitals on loopback: processes, TLS, node keys, free ports; all ends with the test."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from client.runtime.supernode import supernode_argv
from client.settings import SiteFolder
from common.files import write_bytes, write_text
from common.platform.keys.private_keys import new_node_key, new_secret
from common.platform.processes.flower import LOOPBACK, environment
from server.membership.setup import create_server
from server.runtime.control import Control
from server.runtime.superlink import flower_environment, superexec_argv, superlink_argv
from server.settings import ServerFolder

PROMPT = Path(__file__).with_name("prompt")
COORDINATOR = ("superlink", "gateway", "superexec")
"""Processes of a coordinator, by the names that `Processes` has for them."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, each another."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Return when it holds, or fail the test and say what did not come."""
    end = time.monotonic() + seconds

    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.1)


@dataclass
class Processes:
    """What a test started, each with a log file; `stop` ends them, the latest first."""

    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start `argv` with `env` added to this process's; its output goes to the log of that name."""
        with self.log(name).open("ab") as out:
            process = subprocess.Popen(
                argv, env={**os.environ, **env}, cwd=self.logs, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

        self.running[name] = process
        return process

    def log(self, name: str) -> Path:
        """Where a process's output is."""
        return self.logs / f"{name}.log"

    def stop(self, name: str, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End one and wait for it."""
        process = self.running.pop(name)
        process.send_signal(with_signal)

        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """End all."""
        for name in reversed(list(self.running)):
            self.stop(name)


@dataclass(frozen=True)
class Hospital:
    """A hospital's folder and its node id at the SuperLink."""

    folder: SiteFolder
    node: int


@dataclass
class Federation:
    """A running coordinator: SuperLink, the starter of ServerApps, and the gateway."""

    root: Path
    folder: ServerFolder
    processes: Processes
    control: Control
    gateway: str
    superlink: str

    def start_what_ended(self) -> None:
        """Start those of the coordinator's processes that do not run, and wait until they serve."""
        settings = self.folder.settings()
        env = flower_environment(self.folder)
        running = self.processes.running
        ended = [name for name in COORDINATOR if name not in running or running[name].poll() is not None]
        trust = ssl.create_default_context(cafile=str(self.folder.ca_certificate))
        gateway = [sys.executable, "-P", "-m", "server.runtime.gateway", "--dir", str(self.folder.root)]
        if "superlink" in ended:
            self.processes.start("superlink", superlink_argv(self.folder, settings), env)
        if "gateway" in ended:
            self.processes.start("gateway", gateway, env)
        wait_for(lambda: answers(f"https://{self.superlink}/health", trust, 200), "SuperLink")
        wait_for(lambda: answers(f"https://{self.gateway}/", trust, 403), "the gateway")
        if "superexec" in ended:
            self.processes.start("superexec", superexec_argv(self.folder, settings), env)

    def enrol(self, name: str) -> Hospital:
        """A hospital that is registered and not yet running."""
        (port, monitor), folder = free_ports(2), SiteFolder(self.root / name)
        new_node_key(folder.node_key)
        new_secret(folder.supernode_secret)
        folder.flower_home.mkdir()
        write_bytes(folder.ca_certificate, self.folder.ca_certificate.read_bytes())
        write_text(
            folder.settings_file,
            f'name = "{name}"\ngateway = "{self.gateway}"\ncoordination = "{LOOPBACK}:1"\nca_fingerprint = "-"\n\n'
            f"[ports]\nsupernode = {port}\nmonitor = {monitor}\n",
        )
        public = folder.node_key.with_name("node.pub").read_bytes()

        return Hospital(folder, self.control.register_node(public, name))

    def start_supernode(self, hospital: Hospital) -> subprocess.Popen[bytes]:
        """Start a hospital's SuperNode, whether it will be let in or not."""
        folder = hospital.folder
        argv = supernode_argv(folder, folder.settings())
        return self.processes.start(f"{folder.root.name}-supernode", argv, environment(folder.flower_home))

    def start_launcher(self, hospital: Hospital) -> subprocess.Popen[bytes]:
        """Start a hospital's launcher."""
        argv = [sys.executable, "-P", "-m", "client.runtime.launcher", "--dir", str(hospital.folder.root)]
        return self.processes.start(f"{hospital.folder.root.name}-launcher", argv, {})

    def wait_online(self, hospital: Hospital, *, online: bool = True) -> None:
        """Wait until the SuperLink sees the hospital's SuperNode, or sees it no more."""
        wait_for(
            lambda: any(one.node == hospital.node and one.status == "online" for one in self.control.nodes()) == online,
            f"{hospital.folder.root.name} {'online' if online else 'offline'}",
        )

    def launcher_log(self, hospital: Hospital) -> str:
        """What its launcher has written."""
        return self.processes.log(f"{hospital.folder.root.name}-launcher").read_text()

    def finish(self, run: int, seconds: float = 120.0) -> str:
        """Wait for a run's end and tell how it ended."""
        wait_for(lambda: self.control.status(run).status == "finished", f"the end of run {run}", seconds)
        return self.control.status(run).sub_status


def start_coordinator(root: Path) -> Federation:
    """A coordinator's folder and its three processes, ready to be dialled."""
    folder = ServerFolder(root / "server")
    create_server(folder.root, [LOOPBACK], datetime.now(UTC))
    gateway, coordination, superlink, monitor = free_ports(4)
    write_text(
        folder.settings_file,
        f'hosts = ["{LOOPBACK}"]\n\n[ports]\nlisten = "{LOOPBACK}"\ngateway = {gateway}\n'
        f"coordination = {coordination}\nsuperlink = {superlink}\nmonitor = {monitor}\n",
    )
    control = Control(f"{LOOPBACK}:{superlink}", folder.ca_certificate.read_bytes())
    processes = Processes(folder.logs)
    federation = Federation(root, folder, processes, control, f"{LOOPBACK}:{gateway}", f"{LOOPBACK}:{superlink}")

    try:
        federation.start_what_ended()
    except BaseException:
        control.close()
        processes.stop_all()
        raise

    return federation


def answers(url: str, trust: ssl.SSLContext, status: int) -> bool:
    """Does it answer, under this trust, with this status?"""
    try:
        return httpx.get(url, verify=trust, trust_env=False).status_code == status
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def prompt() -> Iterator[None]:
    """SuperNodes look for messages more often than Flower's do, see `prompt/sitecustomize.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROMPT))
        yield


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A running coordinator without hospitals."""
    running = start_coordinator(tmp_path_factory.mktemp("federation"))

    try:
        yield running
    finally:
        running.control.close()
        running.processes.stop_all()
