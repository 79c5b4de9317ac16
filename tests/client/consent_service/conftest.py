"""A hospital whose consent service runs in a process of its own, and clients with real certificates."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from client.consent_client import ConsentClient
from client.consent_service.authority import add_client, make_authority
from client.settings import Role, SiteFolder
from client.setup import Asked, create_site

NOW = datetime.now(UTC)
CLIENTS: dict[str, Role] = {"desk": "steward", "ehr-1": "ehr", "ehr-2": "ehr", "audit": "auditor"}
SECRET = "MRN-0815-MUELLER"
PATIENTS = 100


class Hospital:
    """A site with a registered cohort of a hundred, without images, whose consent service can be started and killed."""

    def __init__(self, root: Path, settings: str = "", before: str = "") -> None:
        self.folder = SiteFolder(root)
        create_site(root, Asked("north", "localhost", "0" * 64))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with self.folder.settings_file.open("a") as file:
            file.write(f"\n{before}\n[consent_service]\nenabled = true\nport = {self.port}\n{settings}\n")
        subsets = {f"{SECRET}-{n}": "train" for n in range(PATIENTS)}
        (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
        # Long ago, so that it can have given out a certificate that has expired since.
        long_ago = NOW - timedelta(days=500)
        make_authority(self.folder, ["localhost"], long_ago)
        for name, role in CLIENTS.items():
            add_client(self.folder, name, role, NOW)
        add_client(self.folder, "late", "steward", long_ago)
        self.log = root / "logs" / "consent.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def handed_to(self, client: str) -> Path:
        return self.folder.consent_service / "handover" / client

    def client(self, name: str) -> contextlib.AbstractContextManager[ConsentClient]:
        return ConsentClient.open(self.address, self.handed_to(name))

    @contextlib.contextmanager
    def channel(self, name: str) -> Iterator[grpc.Channel]:
        """A plain channel, for what the client does not do."""
        folder = self.handed_to(name)
        files = [(folder / file).read_bytes() for file in ("ca.crt", "client.key", "client.crt")]
        with grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*files)) as channel:
            yield channel

    def start(self) -> None:
        command = [sys.executable, "-m", "client.consent_service", "--dir", str(self.folder.root)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=30) == 0, self.log.read_text()

    def logged(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="module")
def patient() -> Callable[[], str]:
    """The next patient of the training set whom no test of the module has had."""
    numbers = iter(range(PATIENTS))
    return lambda: f"{SECRET}-{next(numbers)}"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One that runs, for tests that do not mind each other."""
    one = Hospital(tmp_path_factory.mktemp("site") / "north")
    one.start()
    yield one
    one.close()


@pytest.fixture
def new_hospital(tmp_path: Path) -> Iterator[Callable[..., Hospital]]:
    """Make further ones, with settings of `[consent_service]`; they are stopped at the end."""
    made: list[Hospital] = []

    def make(settings: str = "", before: str = "") -> Hospital:
        made.append(Hospital(tmp_path / f"north-{len(made)}", settings, before))
        return made[-1]

    yield make
    for one in made:
        one.close()
