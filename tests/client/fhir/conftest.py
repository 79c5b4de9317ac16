"""A site without images, and a FHIR server over HTTP with versions, pages, a sign-in, and faults on demand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from client.consent.mii_broad_consent import USE_FOR_RESEARCH
from client.consent.opening import open_ledger
from client.consent.overview import read_revocations
from client.consent_store import ConsentStore
from client.database import migrate
from client.fhir.intake import Intake
from client.fhir.patients import PatientMap
from client.fhir.server import FhirServer, http_client
from client.fhir.setup import make_keys
from client.settings import SiteFolder
from client.setup import Asked, create_site
from common.files import write_private
from common.sql import open_database

BEGIN = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
SECRET = b"0123456789abcdef" * 4
RESEARCH = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]}
PERMIT = {
    "type": "permit",
    "code": [{"coding": [{"system": USE_FOR_RESEARCH.system, "code": USE_FOR_RESEARCH.code}]}],
}


def consent(number: str, patient: str, status: str = "active", **more: Any) -> dict[str, Any]:
    """A Consent of R4 without `meta`, which a server writes."""
    return {
        "resourceType": "Consent",
        "id": number,
        "status": status,
        "scope": RESEARCH,
        "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}], "text": f"of {patient}"}],
        "patient": {"reference": f"Patient/{patient}", "display": f"name of {patient}"},
        "dateTime": "2024-03-01T10:00:00+01:00",
        "policy": [{"uri": "https://hospital.example/research-consent"}],
        "provision": PERMIT,
        **more,
    }


class FhirStub:
    """A hospital's FHIR server as bad as they get: pages are offsets into a list that changes meanwhile."""

    def __init__(self) -> None:
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.now = BEGIN
        self.faults: list[int] = []
        """Status of the next answers, -1 for a connection that breaks off."""
        self.page = 100
        self.has_history = True
        self.after_page: Callable[[], None] = lambda: None
        """Called when a page is made, before it is sent."""
        self.next_link = ""
        self.token = ""
        """What a request must show, if not empty."""
        self.tokens_asked: list[dict[str, list[str]]] = []
        self.requests: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.get(self)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                stub.tokens_asked.append(parse_qs(body))
                stub.token = f"token-{len(stub.tokens_asked)}"
                stub.send(self, 200, {"access_token": stub.token, "token_type": "bearer", "expires_in": 300})

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.base = f"{self.origin}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    consent = staticmethod(consent)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        self.versions, self.faults, self.requests, self.now = {}, [], [], BEGIN

    def write(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The next version of a Consent, a second later than the last one of all."""
        self.now += timedelta(seconds=1)
        known = self.versions.setdefault(resource["id"], [])
        meta = {"versionId": str(len(known) + 1), "lastUpdated": self.now.isoformat(timespec="milliseconds")}
        known.append({**resource, "meta": meta})
        return known[-1]

    def get(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        if request.path == "/fhir/.well-known/smart-configuration":
            self.send(request, 200, {"token_endpoint": f"{self.origin}/token"})
            return
        if self.faults:
            fault = self.faults.pop(0)
            if fault == -1:
                request.close_connection = True
            else:
                self.send(request, fault, {"resourceType": "OperationOutcome"})
            return
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            self.send(request, 401, {})
            return
        parts = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/fhir/Consent":
            self._search(request, asked)
        elif parts.path.endswith("/_history") and self.has_history:
            found = self.versions[parts.path.split("/")[3]][::-1]
            self.send(request, 200, {"resourceType": "Bundle", "type": "history", "entry": entries(found)})
        else:
            self.send(request, 404, {"resourceType": "OperationOutcome"})

    def _search(self, request: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        since = datetime.fromisoformat(asked.get("_lastUpdated", f"ge{datetime.min.isoformat()}+00:00")[2:])
        found = [versions[-1] for versions in self.versions.values()]
        found = [r for r in found if datetime.fromisoformat(r["meta"]["lastUpdated"]) >= since]
        found.sort(key=lambda r: r["meta"]["lastUpdated"])
        begin = int(asked.get("offset", "0"))
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        bundle["entry"] = entries(found[begin : begin + self.page])
        if begin + self.page < len(found):
            query = urlencode({**asked, "offset": str(begin + self.page)})
            bundle["link"] = [{"relation": "next", "url": self.next_link or f"{self.base}/Consent?{query}"}]
        self.after_page()
        self.send(request, 200, bundle)

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        request.send_response(status)
        request.send_header("content-type", "application/fhir+json")
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def entries(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"resource": resource} for resource in resources]


@pytest.fixture(scope="module")
def running_stub() -> Iterator[FhirStub]:
    stub = FhirStub()
    yield stub
    stub.close()


@pytest.fixture
def ehr(running_stub: FhirStub) -> FhirStub:
    """The hospital's FHIR server, empty."""
    running_stub.reset()
    running_stub.page, running_stub.has_history, running_stub.next_link, running_stub.token = 100, True, "", ""
    running_stub.after_page = lambda: None
    running_stub.tokens_asked = []
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
        place, clock = SiteFolder(folder), Clock(now)
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
        create_site(root, Asked("north", "localhost", hashlib.sha256(b"a federation").hexdigest()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with self.folder.settings_file.open("a") as file:
            file.write(f"\n[fhir]\nenabled = true\nport = {port}\n{settings}\n")
        make_keys(self.folder)
        subsets = {f"p-{n}": "train" for n in range(10)}
        (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
        self.token = (root / "fhir" / "token").read_text()
        self.http = httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}/fhir", timeout=30, trust_env=False, **tls)
        self.http.headers["authorization"] = f"Bearer {self.token}"
        self.port = port
        self.log = root / "logs" / "fhir.txt"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "client.fhir", "--dir", str(self.folder.root)]
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
