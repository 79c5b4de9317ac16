"""`fedforget-server up` and `fedforget-site up` with a real coordinator and a real hospital, and both doctors."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from common.platform.keys import certificates
from common.platform.keys.certificates import load_certificate
from server.membership.setup import renew_certificate
from server.settings import ServerFolder

pytestmark = pytest.mark.integration


def command(side: str, *arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name(f"fedforget-{side}")), *map(str, arguments)]


def run(side: str, *arguments: object, code: int = 0) -> Any:
    """What a command prints with --json, and it ends with `code`."""
    done = subprocess.run(command(side, *arguments, "--json"), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@dataclass
class Up:
    """A running `up`; its JSON lines go to a file."""

    side: str
    folder: Path
    monitor: int
    lines: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it unless it runs, and wait until it is ready."""
        if self.process is not None and self.process.poll() is None:
            return
        with self.lines.open("wb") as out:
            self.process = subprocess.Popen(command(self.side, "up", "--dir", self.folder, "--json"), stdout=out)
        self.wait("up", "ready")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def entries(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.lines.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def events(self, process: str, event: str) -> int:
        return sum((entry["process"], entry.get("event")) == (process, event) for entry in self.entries())

    def wait(self, process: str, event: str, count: int = 1, seconds: float = 120.0) -> None:
        wait_until(lambda: self.events(process, event) >= count, f"{process}: {event}", seconds)

    def health(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.monitor}/health", trust_env=False, timeout=10)

    def find(self, word: str) -> list[psutil.Process]:
        """Processes whose command line names this folder and `word`, without guards."""
        found = []

        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            guard = any(part.endswith("process_guard.py") for part in words)
            if not guard and any(str(self.folder) in part for part in words) and any(word in part for part in words):
                found.append(process)

        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Up]]:
    """A coordinator and the hospital `north`, enrolled; whatever runs at the end is stopped."""
    root = tmp_path_factory.mktemp("federation")
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        ports = [listener.getsockname()[1] for listener in listeners]

    gateway, coordination, superlink, server_monitor, supernode, site_monitor = ports
    server = root / "server"
    site = root / "north"
    made = run("server", "init", server, "--host", "localhost", "--class", "no", "--class", "yes")
    text = re.sub(
        r"^gateway = \d+\ncoordination = \d+$",
        f'listen = "127.0.0.1"\ngateway = {gateway}\ncoordination = {coordination}\n'
        f"superlink = {superlink}\nmonitor = {server_monitor}",
        (server / "server.toml").read_text(),
        flags=re.MULTILINE,
    )
    (server / "server.toml").write_text(text)
    address = ("--server", f"localhost:{gateway}", "--name", "north", "--ca-fingerprint", made["ca_fingerprint"])
    request = run("site", "init", site, *address)
    bundle = root / "north-join.json"
    compared = ("--fingerprint", request["fingerprint"], "--out", bundle, "--dir", server)
    run("server", "site", "approve", request["request"], *compared)
    run("site", "join", bundle, "--dir", site)
    with (site / "site.toml").open("a") as file:
        file.write(f"\n[ports]\nsupernode = {supernode}\nmonitor = {site_monitor}\n")
    ups = (
        Up("server", server, server_monitor, root / "server.jsonl"),
        Up("site", site, site_monitor, root / "site.jsonl"),
    )
    try:
        yield ups
    finally:
        running = [up.process for up in ups if up.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def healthy(up: Up) -> bool:
    return up.health().status_code == 200


@pytest.fixture
def federation(made: tuple[Up, Up]) -> tuple[Up, Up]:
    """Both up and ready, whatever the test before has ended."""
    for up in made:
        up.start()
    for up in made:
        wait_until(partial(healthy, up), f"{up.side} did not become healthy")
    return made


def test_everything_is_up_and_health_says_so(federation: tuple[Up, Up]) -> None:
    server, site = (up.health() for up in federation)
    assert (server.status_code, site.status_code) == (200, 200)
    assert set(server.json()["processes"]) == {"superlink", "superexec", "gateway", "coordinator"}
    assert set(site.json()["processes"]) == {"supernode", "launcher", "coordination"}


def test_both_doctors_find_nothing_but_the_data_that_were_not_imported(federation: tuple[Up, Up]) -> None:
    server, site = federation
    found = run("site", "doctor", "--dir", site.folder, code=1)
    assert [row["name"] for row in found if row["result"] == "fail"] == ["data"]
    rows = {row["name"]: row for row in found}
    assert [rows[name]["result"] for name in ("gateway TLS", "clock", "approval", "version")] == ["ok"] * 4

    def heard() -> bool:
        rows = {row["name"]: row["result"] for row in run("server", "doctor", "--dir", server.folder)}
        return bool(rows["site north"] == "ok")

    wait_until(heard, "no heartbeat came")
    metrics = httpx.get(f"http://127.0.0.1:{server.monitor}/metrics", trust_env=False).text
    assert 'fedforget_site_active{site="north"} 1.0' in metrics
    assert 'fedforget_site_pending{site="north"} 0.0' in metrics


def test_a_second_up_in_the_same_folder_is_refused(federation: tuple[Up, Up]) -> None:
    for up in federation:
        again = command(up.side, "up", "--dir", up.folder)
        done = subprocess.run(again, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 4
        assert "another `up` runs" in done.stderr


@pytest.mark.parametrize(
    ("number", "process", "word"),
    [(0, "superexec", "server.runtime.superexec"), (1, "launcher", "client.runtime.launcher")],
)
def test_a_killed_process_is_started_again(federation: tuple[Up, Up], number: int, process: str, word: str) -> None:
    up = federation[number]
    before, (victim,) = up.events(process, "up"), up.find(word)
    os.kill(victim.pid, signal.SIGKILL)
    up.wait(process, "up", before + 1)
    wait_until(lambda: up.health().status_code == 200, "health did not come back")
    assert f'{{process="{process}"}} 1.0' in httpx.get(f"http://127.0.0.1:{up.monitor}/metrics", trust_env=False).text


def test_a_killed_up_leaves_no_process_behind_and_the_next_one_starts(federation: tuple[Up, Up]) -> None:
    server, _ = federation
    assert server.find("server.runtime.gateway")
    server.end(signal.SIGKILL)
    wait_until(lambda: not server.find(""), "orphans", 30)
    server.start()


def test_sigterm_stops_both_within_15_seconds_with_exit_code_0(federation: tuple[Up, Up]) -> None:
    begun = time.monotonic()
    for up in federation:
        assert up.process is not None
        up.process.terminate()

    assert [up.process and up.process.wait(30) for up in federation] == [0, 0]
    assert time.monotonic() - begun < 15
    assert [up.find("") for up in federation] == [[], []]


def test_logs_of_the_hospital_hold_known_lines_only_and_no_colours(federation: tuple[Up, Up]) -> None:
    _, site = federation
    text = "".join(path.read_text() for path in sorted((site.folder / "logs").iterdir()))
    assert "SuperNode ID: " in text
    assert "\\u001b" not in text
    assert "line withheld" not in text


def served(server: Up) -> set[bytes]:
    """Certificates (DER) that the gateway and the coordination service show; empty where one does not answer."""
    ports = ServerFolder(server.folder).settings().ports
    try:
        pems = [ssl.get_server_certificate(("127.0.0.1", port)) for port in (ports.gateway, ports.coordination)]
    except OSError:
        return set()
    return {ssl.PEM_cert_to_DER_cert(pem) for pem in pems}


# A minute passes between two looks of `up` at the certificate.
@pytest.mark.slow
def test_the_coordinators_certificate_is_renewed_and_served_without_anybody_doing_anything(
    federation: tuple[Up, Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, site = federation
    server.end()
    monkeypatch.setattr(certificates, "SERVER_LIFETIME", timedelta(days=25))
    renew_certificate(ServerFolder(server.folder), datetime.now(UTC))
    old = load_certificate(ServerFolder(server.folder).certificate)
    assert old.not_valid_after_utc - datetime.now(UTC) < timedelta(days=26)
    server.start()

    def renewed() -> bool:
        new = load_certificate(ServerFolder(server.folder).certificate)
        return new != old and served(server) == {new.public_bytes(Encoding.DER)}

    wait_until(renewed, "the old certificate is still served", 240)
    assert server.events("superlink", "outdated") == 1
    wait_until(partial(healthy, server), "the coordinator is not healthy")
    assert server.events("superexec", "outdated") == 0
    wait_until(partial(healthy, site), "the hospital did not come back")
    rows = {row["name"]: row["result"] for row in run("site", "doctor", "--dir", site.folder, code=1)}
    assert rows["gateway TLS"] == "ok"
