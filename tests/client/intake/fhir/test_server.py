"""What real FHIR servers and proxies answer: links, caches, charsets, redirects, tokens, half answers."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from client.intake.fhir.intake import Intake
from client.intake.fhir.pull.links import check_alias, own
from client.intake.fhir.pull.page import read_page
from client.intake.fhir.pull.pull import pull
from client.intake.fhir.pull.smart import SignIn
from client.intake.fhir.server import FhirServer, http_client
from client.revocations.tombstones.overview import read_revocations
from common.errors import ConfigError, UnavailableError, WireError

OVERLAP = timedelta(seconds=2)
INNER = "http://fhir.svc.cluster.local/fhir"
BASE = "https://ehr.example:8443/fhir"
KEY = ec.generate_private_key(ec.SECP384R1())
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def intake(make_intake: Callable[..., Intake], tmp_path: Path, ehr: Any) -> Intake:
    return make_intake(tmp_path / "site", base=ehr.base)


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Another host, which must never be asked for anything."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/fhir"
    server.shutdown()
    thread.join()
    server.server_close()
    assert asked == []


def revoked(intake: Intake) -> set[str]:
    return set(read_revocations(intake.ledger.folder.root).patients)


def three(ehr: Any) -> None:
    ehr.page = 1
    for n in range(3):
        ehr.write(ehr.consent(f"c-{n}", f"p-{n}", "inactive"))


def test_a_next_page_at_another_host_is_named_with_what_to_set_and_never_asked(
    ehr: Any, server: FhirServer, intake: Intake, elsewhere: str
) -> None:
    three(ehr)
    ehr.next_link = f"{elsewhere}?_getpages=secret"
    with pytest.raises(WireError) as caught:
        pull(server, intake, OVERLAP)
    assert f'server_aliases = ["{elsewhere}"]' in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_next_page_at_an_address_that_the_site_names_is_read_at_the_server(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    three(ehr)
    ehr.rewrite = lambda text: text.replace(f'"url": "{ehr.base}', f'"url": "{INNER}')
    behind = FhirServer(server.http, ehr.base, pause=lambda _: None, aliases=[INNER])
    pull(behind, intake, OVERLAP)
    assert revoked(intake) == {"p-0", "p-1", "p-2"}


@pytest.mark.parametrize(
    "link",
    [
        "https://ehr.example:8443/fhir?_getpages=1",
        "?_getpages=1",
        "/fhir?_getpages=1",
        "Consent?page=2",
        "HTTPS://EHR.EXAMPLE:8443/fhir/Consent?page=2",
        "//ehr.example:8443/fhir/Consent?page=2",
    ],
)
def test_links_below_the_server_are_followed(link: str) -> None:
    url = own(link, httpx.URL(f"{BASE}/Consent?_count=1"), BASE, ())
    assert str(url).startswith(BASE)


@pytest.mark.parametrize(
    "link",
    [
        "http://ehr.example:8443/fhir?x=1",
        "https://ehr.example/fhir?x=1",
        "https://ehr.example:8443/other?x=1",
        "https://ehr.example:8443/fhirs?x=1",
        "https://ehr.example:8443/fhir/../admin",
        "https://ehr.example:8443/fhir/%2e%2E/admin",
        "https://ehr.example:8443/fhir/..\\admin",
        "../../admin",
        "https://ehr.example:8443@evil.example/fhir",
        "https://user:pw@ehr.example:8443/fhir",
        "https://ehr.example:8443\\@evil.example/fhir",
        "https://evil.example\\@ehr.example:8443/fhir",
        "//evil.example/fhir",
        "https://[::1/fhir",
        "https://ehr.example:99999/fhir",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://\x1b]0;evil\x07.example/",
        "http://fhir.svc.cluster.local.evil.example/fhir",
        "http://fhir.svc.cluster.local/fhirs",
        "http://fhir.svc.cluster.local/fhir/../admin",
        "",
    ],
)
def test_links_elsewhere_are_refused_in_one_printable_line(link: str) -> None:
    if not link:  # which is the page itself, and ends as a circle
        assert str(own(link, httpx.URL(f"{BASE}/Consent"), BASE, (INNER,))) == f"{BASE}/Consent"
        return

    with pytest.raises(WireError) as caught:
        own(link, httpx.URL(f"{BASE}/Consent?_count=1"), BASE, (INNER,))
    assert str(caught.value).isprintable()
    assert "pw" not in str(caught.value)


def test_an_alias_is_rebased_with_its_path_and_query() -> None:
    assert str(own(f"{INNER}?_getpages=1&b=%2F", httpx.URL(BASE), BASE, (INNER,))) == f"{BASE}?_getpages=1&b=%2F"
    assert str(own(f"{INNER}/Consent?p=2", httpx.URL(BASE), BASE, (INNER,))) == f"{BASE}/Consent?p=2"


@pytest.mark.parametrize("alias", ["fhir", "ftp://a/b", "http://a:b@c/d", "http://a/b?c=d", ""])
def test_an_alias_that_is_no_address_is_refused(alias: str) -> None:
    with pytest.raises(ConfigError):
        check_alias(alias, "fhir.server_aliases")


def test_no_answer_from_a_cache_is_asked_for(ehr: Any, server: FhirServer, intake: Intake) -> None:
    three(ehr)
    pull(server, intake, OVERLAP)
    assert len(ehr.seen_headers) > 3
    assert {headers["cache-control"] for headers in ehr.seen_headers} == {"no-cache"}


def test_a_redirect_is_followed_below_the_server_and_never_to_another_host(
    ehr: Any, intake: Intake, elsewhere: str
) -> None:
    def reads(answer: Callable[[httpx.Request], httpx.Response]) -> None:
        with httpx.Client(transport=httpx.MockTransport(answer)) as http:
            pull(FhirServer(http, ehr.base, pause=lambda _: None), intake, OVERLAP)

    with pytest.raises(WireError, match="another server"):
        reads(lambda _: httpx.Response(307, headers={"location": f"{elsewhere}/Consent"}))
    with pytest.raises(WireError, match="302"):
        reads(lambda _: httpx.Response(302, headers={"location": "?"}))
    consent = ehr.consent("c-9", "p-9", "inactive")
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": consent}]}
    reads(
        lambda request: (
            httpx.Response(200, json=bundle)
            if "moved" in request.url.params
            else httpx.Response(308, headers={"location": "/fhir/Consent?moved=1"})
        )
    )
    assert revoked(intake) == {"p-9"}


def test_a_server_asks_for_patience_in_seconds_or_by_a_date(ehr: Any, server: FhirServer) -> None:
    waits: list[float] = []
    date = datetime(2026, 11, 1, 8, tzinfo=UTC)
    values = ["7", format_datetime(date + timedelta(seconds=9), usegmt=True), "soon", "99999999"]

    def busy(_: httpx.Request) -> httpx.Response:
        headers = {"date": format_datetime(date, usegmt=True), "retry-after": values.pop(0) if values else "0"}
        return httpx.Response(503 if len(waits) % 2 else 429, headers=headers)

    with httpx.Client(transport=httpx.MockTransport(busy)) as http, pytest.raises(UnavailableError):
        [*FhirServer(http, ehr.base, pause=waits.append).search({})]
    assert waits[:2] == [7.0, 9.0]
    assert waits[2] < 7
    assert waits[3] == 60.0


@pytest.mark.parametrize("encoding", ["gzip", "utf-8-sig", "latin-1", "utf-16"])
def test_a_page_is_read_whatever_its_encoding(ehr: Any, intake: Intake, encoding: str) -> None:
    consent = ehr.consent("c-1", "p-1", "inactive")
    consent["category"][0]["text"] = "Müller"
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": consent}]}
    text = json.dumps(bundle, ensure_ascii=False)
    headers = {"content-type": "application/fhir+json"}

    if encoding == "gzip":
        content = gzip.compress(text.encode(), mtime=0)
        headers["content-encoding"] = "gzip"
    else:
        content = text.encode(encoding)
        headers["content-type"] += "" if encoding == "utf-8-sig" else f"; charset={encoding}"

    answer = httpx.Response(200, content=content, headers=headers)
    with httpx.Client(transport=httpx.MockTransport(lambda _: answer)) as http:
        assert pull(FhirServer(http, ehr.base, pause=lambda _: None), intake, OVERLAP).revoked == 1


def test_entries_of_other_kinds_are_left_out_and_counted(ehr: Any, server: FhirServer, intake: Intake) -> None:
    three(ehr)
    ehr.page = 100
    note = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "processing"}]}
    ehr.extra = [{"resource": {"resourceType": "Patient", "id": "p-1"}}, {"resource": note}, {"fullUrl": "urn:x"}]
    assert pull(server, intake, OVERLAP).others == 2
    assert revoked(intake) == {"p-0", "p-1", "p-2"}
    assert intake.store.progress(ehr.base).cursor is not None


def test_an_answer_that_says_it_is_not_whole_does_not_move_the_cursor(
    ehr: Any, server: FhirServer, intake: Intake
) -> None:
    ehr.write(ehr.consent("c-0", "p-0"))
    pull(server, intake, OVERLAP)
    before = intake.store.progress(ehr.base)
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}
    ehr.extra = [{"resource": outcome, "search": {"mode": "outcome"}}]
    with pytest.raises(WireError, match="incomplete"):
        pull(server, intake, OVERLAP)
    assert revoked(intake) == {"p-1"}
    assert intake.store.progress(ehr.base) == before


def test_pages_without_end_that_bring_nothing_new_are_left(ehr: Any, server: FhirServer, intake: Intake) -> None:
    numbers = iter(range(10**6))
    consent = ehr.write(ehr.consent("c-1", "p-1"))

    def same(_: httpx.Request) -> httpx.Response:
        link = {"relation": "next", "url": f"{ehr.base}?page={next(numbers)}"}
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": [link], "entry": [{"resource": consent}]}
        return httpx.Response(200, json=bundle)

    with httpx.Client(transport=httpx.MockTransport(same)) as http, pytest.raises(WireError, match="loop"):
        [*FhirServer(http, ehr.base, pause=lambda _: None).search({})]
    assert next(numbers) < 200


def test_a_server_that_knows_no_last_updated_is_read_whole(ehr: Any, server: FhirServer, intake: Intake) -> None:
    ehr.sort = False
    ehr.write(ehr.consent("c-1", "p-1"))
    pull(server, intake, OVERLAP)
    ehr.write(ehr.consent("c-2", "p-2"))
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    assert pull(server, intake, OVERLAP).revoked == 1


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_withdrawal_that_was_taken_back_is_seen_whatever_the_servers_clock_says(
    ehr: Any, server: FhirServer, intake: Intake, hours: int
) -> None:
    """The first pull finds nothing, so that only the server's own clock says from when on it listens."""
    ehr.now = intake.clock() + timedelta(hours=hours)
    ehr.date = ehr.now
    pull(server, intake, OVERLAP)
    intake.clock.now += timedelta(minutes=5)  # type: ignore[attr-defined]
    ehr.write(ehr.consent("c-1", "p-1"))
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    ehr.write(ehr.consent("c-1", "p-1"))
    assert pull(server, intake, OVERLAP).revoked == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"expires_in": "3600"}, 3600),
        ({"expires_in": 3600.7}, 3600.7),
        ({"expires_in": "3600.0"}, 3600),
        ({}, 300),
        ({"expires_in": None}, 300),
        ({"expires_in": "soon"}, 300),
        ({"expires_in": True}, 300),
        ({"expires_in": [1]}, 300),
        ({"expires_in": float("nan")}, 300),
        ({"expires_in": 1e308}, 86400),
        ({"expires_in": 10**400}, 86400),
        ({"expires_in": "9" * 300}, 86400),
        ({"expires_in": float("inf")}, 86400),
        ({"expires_in": 10}, 10),
        ({"expires_in": 0}, 0),
        ({"expires_in": -5}, 0),
        ({"token_type": "BEARER"}, 300),
        ({"token_type": " Bearer"}, 300),
        ({"token_type": None}, 300),
    ],
)
def test_a_token_is_used_for_as_long_as_its_server_can_have_meant(said: dict[str, Any], seconds: float) -> None:
    clock = [NOW]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=json.dumps({"access_token": "x", "token_type": "bearer", **said}))

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        sign_in = SignIn(http, "https://ehr.example/token", "north", "s", KEY, lambda: clock[0])
        assert sign_in.token() == "x"
        clock[0] += timedelta(seconds=max(seconds - 31, seconds / 2 - 1) if seconds else 0)
        sign_in.token()
        assert len(asked) == (1 if seconds else 2)
        clock[0] += timedelta(seconds=seconds)
        sign_in.token()

    assert len(asked) == (2 if seconds else 3)


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (200, b'{"access_token": "x", "token_type": "mac"}', "no bearer token"),
        (200, b'{"access_token": "x y", "token_type": "bearer"}', "holds no token"),
        (200, b'{"access_token": "x\\r\\nHost: y", "token_type": "bearer"}', "holds no token"),
        (200, b'{"access_token": 7, "token_type": "bearer"}', "holds no token"),
        (200, b"[" * 100_000, "not a JSON object"),
        (302, b"", "moved"),
    ],
)
def test_an_answer_to_the_sign_in_that_is_no_token_is_said_to_be_none(
    status: int, content: bytes, message: str
) -> None:
    answer = httpx.Response(status, content=content, headers={"location": "https://evil.example/token"})
    with httpx.Client(transport=httpx.MockTransport(lambda _: answer)) as http:
        sign_in = SignIn(http, "https://ehr.example/token", "north", "s", KEY, lambda: NOW)
        with pytest.raises(WireError, match=message):
            sign_in.token()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"resourceType":"Bundle"}', b'{"resourceType":"Bundle","type":"searchset","entry":{}}'],
)
def test_what_is_no_page_is_refused(content: bytes) -> None:
    with pytest.raises(Exception, match=r"Bundle|JSON"):
        read_page(content)


def test_the_http_client_follows_nothing_by_itself() -> None:
    with http_client(None) as http:
        assert not http.follow_redirects
        assert not http.trust_env
