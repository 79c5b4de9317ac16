"""A synthetic hospital without images, whose consent service runs in a process of its own for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from client.intake.grpc.authority import add_client, make_authority
from client.intake.grpc_client import ConsentClient
from client.membership.setup import SiteRequest, create_site
from client.settings import SiteFolder
from client.settings_sections import Role
from common.errors import UnavailableError

CLIENTS: Mapping[str, Role] = {"desk": "steward", "ehr-1": "ehr", "ehr-2": "ehr", "audit": "auditor"}
EXPIRED = "late"
"""Name of a client whose certificate has expired."""
_START_SECONDS = 60.0


# Imports before it waits for a line, so that a prepared process serves at once.
_STANDBY = """
import runpy, sys
import client.intake.grpc.process
if sys.stdin.readline():
    runpy.run_module("client.intake.grpc", run_name="__main__")
"""


def _serve(standby: subprocess.Popen[bytes]) -> None:
    if standby.stdin is not None:
        with standby.stdin as words:
            words.write(b"serve\n")


class ConsentHospital:
    """A site whose training patients have the ids `PREFIX-0`, `PREFIX-1`, ...

    Args:
        root: its new folder.
        prefix: of the patients' ids.
        patients: how many.
        service: further lines of `[consent_service]`.
        site: further lines above it.
        code: checkout of another release, whose service runs; None: this one's.
    """

    def __init__(
        self,
        root: Path,
        *,
        prefix: str,
        patients: int,
        service: str = "",
        site: str = "",
        code: Path | None = None,
    ) -> None:
        self._environment = None if code is None else {**os.environ, "PYTHONPATH": str(code.resolve())}
        self._code = code
        self.folder = SiteFolder(root)
        self.prefix = prefix
        self.log = root / "logs" / "consent.txt"
        create_site(root, SiteRequest("north", "localhost", "0" * 64))
        # Port 0 is any free port of the system.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

        with self.folder.settings_file.open("a", encoding="utf-8") as file:
            file.write(f"\n{site}\n[consent_service]\nenabled = true\nport = {self.port}\n{service}\n")
        subsets = {f"{prefix}-{number}": "train" for number in range(patients)}
        (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}), encoding="utf-8")
        # Long ago, so that it can have given out a certificate that has expired since.
        now = datetime.now(UTC)
        long_ago = now - timedelta(days=500)
        make_authority(self.folder, ["localhost"], long_ago)
        for name, role in CLIENTS.items():
            add_client(self.folder, name, role, now)
        add_client(self.folder, EXPIRED, "steward", long_ago)
        if code is not None:
            for path in root.glob(f"{self.folder.database.name}*"):
                path.unlink()  # of a schema that the other release does not know; it makes its own
        self._process: subprocess.Popen[bytes] | None = None
        self._next: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of its consent service."""
        return f"localhost:{self.port}"

    @property
    def pid(self) -> int:
        """Id of the running process."""
        if self._process is None:
            raise UnavailableError("the consent service was not started")
        return self._process.pid

    def handed_to(self, client: str) -> Path:
        """Folder with a client's key and certificate."""
        return self.folder.consent_service / "handover" / client

    def client(self, name: str) -> contextlib.AbstractContextManager[ConsentClient]:
        """A client of the service."""
        return ConsentClient.open(self.address, self.handed_to(name))

    @contextlib.contextmanager
    def channel(self, name: str) -> Iterator[grpc.Channel]:
        """A plain channel, for what the client does not do."""
        files = [(self.handed_to(name) / file).read_bytes() for file in ("ca.crt", "client.key", "client.crt")]
        with grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*files)) as channel:
            yield channel

    def prepare(self) -> None:
        """Start the next process while another serves, so that `start` does not wait for imports."""
        command = [sys.executable, "-c", _STANDBY, "--dir", str(self.folder.root)]
        with self.log.open("ab") as log:
            self._next = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def start(self) -> None:
        """Start the service, or let the prepared process serve, and wait until it listens.

        Raises:
            UnavailableError: it does not start; its log says why.
        """
        command = [sys.executable, "-m", "client.intake.grpc", "--dir", str(self.folder.root)]

        if self._next is not None:
            self._process = self._next
            self._next = None
            _serve(self._process)
        else:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._code, env=self._environment)

        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)

        raise UnavailableError(f"the consent service did not start:\n{self.logged()}")

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def stop(self) -> int | None:
        """Stop it with SIGTERM if it runs; returns its exit code, or None if it was never started."""
        if self._next is not None:
            self._next.communicate()  # whose input ends, and so it does
            self._next = None

        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout=30)

    def logged(self) -> str:
        """Its output so far."""
        return self.log.read_text(encoding="utf-8")
