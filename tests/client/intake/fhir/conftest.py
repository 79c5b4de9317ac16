"""A site without images, and the FHIR server of its hospital."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from ehr import BEGIN, FhirStub

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.database import migrate
from client.intake.fhir.intake import Intake
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.server import FhirServer, http_client
from client.intake.fhir.setup import make_keys
from client.intake.fhir.store.consents import ConsentStore
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.revocations.tombstones.overview import read_revocations
from client.settings import SiteFolder
from common.files import write_private
from common.platform.sql import open_database

SECRET = b"0123456789abcdef" * 4


@pytest.fixture(scope="module")
def running_stub() -> Iterator[FhirStub]:
    stub = FhirStub()
    yield stub
    stub.close()


@pytest.fixture
def ehr(running_stub: FhirStub) -> FhirStub:
    """The hospital's FHIR server, empty."""
    running_stub.reset()
    return running_stub


@pytest.fixture
def server(ehr: FhirStub) -> Iterator[FhirServer]:
    """A client of it that does not wait between its tries."""
    with http_client(None) as http:
        yield FhirServer(http, ehr.base, pause=lambda _: None)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "site.db"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()

    return path


class Clock:
    """A site's clock, set by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def make_intake(empty_database: Path) -> Iterator[Callable[..., Intake]]:
    """A site in a folder whose training patients are p-0 to p-9, and e-0 and e-1 to evaluate on."""
    opened = ExitStack()

    def make(folder: Path, patients: PatientMap | None = None, base: str = "", now: datetime = BEGIN) -> Intake:
        folder.mkdir(parents=True, exist_ok=True)
        subsets = {f"p-{n}": "train" for n in range(10)} | {"e-0": "test", "e-1": "validation"}
        place = SiteFolder(folder)
        clock = Clock(now)

        if not place.database.exists():
            (folder / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
            shutil.copy(empty_database, place.database)
            write_private(place.pseudonym_secret, SECRET)

        ledger = opened.enter_context(open_ledger(place, clock))

        return Intake(
            ledger,
            ConsentStore(ledger.engine, ledger.pseudonyms),
            lambda: patients or PatientMap(),
            USE_FOR_RESEARCH,
            None,
            clock,
            base,
        )

    with opened:
        yield make


class Hospital:
    """A site whose FHIR process runs, as `fedforget-site up` starts it."""

    def __init__(self, root: Path, settings: str = "", scheme: str = "http", **tls: Any) -> None:
        self.folder = SiteFolder(root)
        create_site(root, SiteRequest("north", "localhost", hashlib.sha256(b"a federation").hexdigest()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        with self.folder.settings_file.open("a") as file:
            file.write(f"\n[fhir]\nenabled = true\nport = {port}\n{settings}\n")
        make_keys(self.folder)
        subsets = {f"p-{n}": "train" for n in range(10)}
        (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
        self.token = (root / "fhir" / "token").read_text()
        # The process hangs up on idle connections, and on a busy machine just when the next request is on its way.
        brief = httpx.Limits(keepalive_expiry=1)
        address = f"{scheme}://127.0.0.1:{port}/fhir"
        self.http = httpx.Client(base_url=address, timeout=30, trust_env=False, limits=brief, **tls)
        self.http.headers["authorization"] = f"Bearer {self.token}"
        self.port = port
        self.log = root / "logs" / "fhir.txt"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "client.intake.fhir", "--dir", str(self.folder.root)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)

        raise AssertionError(self.log.read_text())

    def put(self, resource: dict[str, Any]) -> httpx.Response:
        return self.http.put(f"/Consent/{resource['id']}", json=resource)

    def revoked(self) -> set[str]:
        return set(read_revocations(self.folder.root).patients)

    def until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def start_hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Hospital]]:
    """Start a `Hospital` with further settings of `[fhir]`."""
    running: list[Hospital] = []

    def start(settings: str = "", **more: Any) -> Hospital:
        running.append(Hospital(tmp_path_factory.mktemp("site") / "north", settings, **more))
        return running[-1]

    yield start
    for hospital in running:
        hospital.close()
