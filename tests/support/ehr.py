"""A hospital's FHIR server over HTTP, with versions, pages, a sign-in, and faults on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from client.consent.broad_consent import USE_FOR_RESEARCH

BEGIN = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
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
        self.answer_to_sign_in: dict[str, Any] = {"token_type": "bearer", "expires_in": 300}
        self.rewrite: Callable[[str], str] = str
        """Changes the text of a page before it is sent."""
        self.headers: dict[str, str] = {}
        """Further headers of a page."""
        self.date: datetime | None = None
        """What it says the time is; now if it is None."""
        self.sort = True
        """Whether it knows `_sort` and `_lastUpdated`; else it gives everything as it was written."""
        self.extra: list[dict[str, Any]] = []
        """Further entries of a page."""
        self.seen_headers: list[dict[str, str]] = []
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
                stub.send(self, 200, {"access_token": stub.token, **stub.answer_to_sign_in})

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(stub.date.timestamp() if stub.date else timestamp)

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
        self.versions = {}
        self.faults = []
        self.requests = []
        self.now = BEGIN
        self.page = 100
        self.has_history = True
        self.next_link = ""
        self.token = ""
        self.after_page = lambda: None
        self.rewrite = str
        self.tokens_asked = []
        self.seen_headers = []
        self.headers = {}
        self.extra = []
        self.date = None
        self.sort = True
        self.answer_to_sign_in = {"token_type": "bearer", "expires_in": 300}

    def write(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The next version of a Consent, a second later than the last one of all."""
        self.now += timedelta(seconds=1)
        known = self.versions.setdefault(resource["id"], [])
        meta = {"versionId": str(len(known) + 1), "lastUpdated": self.now.isoformat(timespec="milliseconds")}
        known.append({**resource, "meta": meta})

        return known[-1]

    def get(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        self.seen_headers.append({name.lower(): value for name, value in request.headers.items()})
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
        if self.sort:
            found = [r for r in found if datetime.fromisoformat(r["meta"]["lastUpdated"]) >= since]
            found.sort(key=lambda r: r["meta"]["lastUpdated"])

        begin = int(asked.get("offset", "0"))
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        bundle["entry"] = [*entries(found[begin : begin + self.page]), *self.extra]
        if begin + self.page < len(found):
            query = urlencode({**asked, "offset": str(begin + self.page)})
            bundle["link"] = [{"relation": "next", "url": self.next_link or f"{self.base}/Consent?{query}"}]

        self.after_page()
        content = self.rewrite(json.dumps(bundle)).encode("utf-8", "surrogateescape")
        self.send(request, 200, content, self.headers)

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler,
        status: int,
        value: dict[str, Any] | bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        request.send_response(status)
        headers = {"content-type": "application/fhir+json", **(headers or {})}
        for name, text in headers.items():
            request.send_header(name, text)
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def entries(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"resource": resource} for resource in resources]
