"""Who is let in, and who is not."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from client.membership.setup import make_keys, request_for
from common.errors import EvidenceError, InputError, RefusedError
from common.evidence import dsse
from common.evidence.schema import decode, encode
from common.installation import own_version
from common.platform.keys.certificates import SITE, check_issued, common_name, fingerprint, read_certificate
from common.platform.sql import open_database, transaction
from common.protocol.enrolment import REQUEST_TYPE, EnrolmentRequest, SiteKeys
from server.cli import app
from server.database import EventRow, SiteRow
from server.membership.enrolment import Authority, Kind, approve, open_authority, read_request, readmit, revoke
from server.membership.setup import create_server
from server.settings import ServerFolder

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    create_server(tmp_path / "federation", ["fed.example.org"], NOW, ["no", "yes"])
    return ServerFolder(tmp_path / "federation")


@pytest.fixture
def authority(folder: ServerFolder) -> Authority:
    return open_authority(folder)


@pytest.fixture
def engine(folder: ServerFolder) -> Iterator[Engine]:
    engine = open_database(folder.database_url(folder.settings()))
    yield engine
    engine.dispose()


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], SiteKeys]:
    return lambda name: make_keys(tmp_path / "sites" / name, b"passphrase")


Enrol = Callable[..., Kind]


@pytest.fixture
def enrol(engine: Engine, authority: Authority) -> Enrol:
    def through(data: bytes, now: datetime = NOW) -> Kind:
        with transaction(engine) as session:
            return approve(session, authority, read_request(session, data), now).kind

    return through


def rows(engine: Engine) -> dict[str, dict[str, object]]:
    with Session(engine) as session:
        columns = SiteRow.__table__.columns.keys()
        return {row.name: {c: getattr(row, c) for c in columns} for row in session.scalars(select(SiteRow))}


def events(engine: Engine) -> list[tuple[str | None, str]]:
    with Session(engine) as session:
        return [(event.site, event.kind) for event in session.scalars(select(EventRow).order_by(EventRow.id))]


def changed(data: bytes, **fields: object) -> bytes:
    """The request with other fields, under the signatures it had."""
    envelope = dsse.decode_envelope(data)
    body = encode(replace(decode(EnrolmentRequest, envelope.body), **fields))  # type: ignore[arg-type]  # any field
    return dsse.encode_envelope(replace(envelope, payload=base64.b64encode(body).decode()))


def signed_again(data: bytes, keys: SiteKeys, **fields: object) -> bytes:
    """The request with other fields, signed with the sender's own key."""
    body = decode(EnrolmentRequest, dsse.decode_envelope(data).body)
    other = replace(body, **fields)  # type: ignore[arg-type]  # any field
    return dsse.encode_envelope(dsse.sign(REQUEST_TYPE, encode(other), keys.signing))


def test_an_approved_hospital_has_a_row_an_event_and_a_certificate(
    engine: Engine, authority: Authority, enrol: Enrol, keys: Callable[[str], SiteKeys]
) -> None:
    north = keys("north")
    assert enrol(request_for("north", north, None)) == "enrolled"
    row = rows(engine)["north"]
    assert (row["state"], row["node"], row["enrolled"], row["version"]) == ("active", None, NOW, own_version())
    assert row["signing_key"] == north.signing.public.pem.decode()
    certificate = read_certificate(str(row["certificate"]).encode(), "row")
    check_issued(certificate, authority.ca, SITE, NOW + timedelta(days=364), "it")
    assert common_name(certificate) == "north"
    assert certificate.public_key() == north.tls.public_key()
    assert events(engine) == [("north", "enrolled")]


def test_a_further_hospital_changes_nothing_for_the_others(
    engine: Engine, enrol: Enrol, folder: ServerFolder, keys: Callable[[str], SiteKeys]
) -> None:
    enrol(request_for("north", keys("north"), None))
    before = rows(engine)
    files = {path: path.read_bytes() for path in (folder.root / "pki").iterdir()}
    enrol(request_for("south", keys("south"), None), NOW + timedelta(days=3))
    after = rows(engine)
    assert after.pop("south")["state"] == "active"
    assert after == before
    assert {path: path.read_bytes() for path in (folder.root / "pki").iterdir()} == files


@pytest.mark.parametrize(
    "fields",
    [{"name": "south"}, {"software": "9"}, {"node_proof": "AAAA"}, {"node_key": "ssh-rsa AAAA"}, {"signing_key": "x"}],
)
def test_a_request_that_was_changed_after_signing_is_refused(
    engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys], fields: dict[str, object]
) -> None:
    data = request_for("north", keys("north"), None)
    with pytest.raises(EvidenceError):
        enrol(changed(data, **fields))
    assert rows(engine) == {}
    assert enrol(data) == "enrolled"


def test_every_key_in_a_request_must_be_the_senders(
    engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]
) -> None:
    north = keys("north")
    thief = keys("thief")
    theirs = decode(EnrolmentRequest, dsse.decode_envelope(request_for("north", north, None)).body)
    mine = request_for("thief", thief, None)

    for fields, message in (
        ({"certificate_request": theirs.certificate_request}, "names another site"),
        ({"node_key": theirs.node_key}, "does not hold the node key"),
        ({"node_key": theirs.node_key, "node_proof": theirs.node_proof}, "does not hold the node key"),
        ({"signing_key": theirs.signing_key}, "not among the pinned keys"),
    ):
        with pytest.raises(EvidenceError, match=message):
            enrol(signed_again(mine, thief, **fields))

    assert rows(engine) == {}


@pytest.mark.parametrize("name", ["", "North", "../north", "a" * 65, "-a", "nörd"])
def test_a_name_that_is_no_name_is_refused(name: str, enrol: Enrol, keys: Callable[[str], SiteKeys]) -> None:
    north = keys("north")
    body = dsse.decode_envelope(request_for("north", north, None)).body.replace(
        b'"name":"north"', b'"name":' + json.dumps(name, ensure_ascii=False).encode()
    )
    with pytest.raises(EvidenceError, match="name of a site"):
        enrol(dsse.encode_envelope(dsse.sign(REQUEST_TYPE, body, north.signing)))


def test_a_name_that_is_taken_goes_to_nobody_else(
    engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]
) -> None:
    enrol(request_for("north", keys("north"), None))
    before = rows(engine)
    thief = keys("thief")
    for old in (None, keys("thief-before").signing):
        with pytest.raises(RefusedError, match="north is taken"):
            enrol(request_for("north", thief, old))

    assert rows(engine) == before


def test_two_hospitals_never_share_a_key(engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]) -> None:
    north = keys("north")
    enrol(request_for("north", north, None))
    with pytest.raises(RefusedError, match="belongs to north"):
        enrol(request_for("south", north, None))
    assert list(rows(engine)) == ["north"]


def test_a_rotation_replaces_the_keys_and_forgets_the_node(
    engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]
) -> None:
    old = keys("old")
    new = keys("new")
    enrol(request_for("south", keys("south"), None))
    enrol(request_for("north", old, None))
    with transaction(engine) as session:
        session.get_one(SiteRow, "north").node = 7
    before = rows(engine)
    assert enrol(request_for("north", new, old.signing), NOW + timedelta(days=1)) == "rotated"
    after = rows(engine)
    kept = {"name", "state", "enrolled", "revoked", "bad_replies", "pending", "version"}
    assert {name for name in after["north"] if after["north"][name] == before["north"][name]} >= kept
    assert after["north"]["signing_key"] == new.signing.public.pem.decode()
    assert after["north"]["node"] is None
    assert after["south"] == before["south"]
    assert events(engine)[-1] == ("north", "rotated")


def test_a_rotation_whose_bundle_was_lost_is_approved_again_but_an_older_request_is_not(
    engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]
) -> None:
    old = keys("old")
    new = keys("new")
    first = request_for("north", old, None)
    rotation = request_for("north", new, old.signing)
    enrol(first)
    assert [enrol(rotation), enrol(rotation)] == ["rotated", "renewed"]
    with pytest.raises(RefusedError, match="north is taken"):
        enrol(first)
    assert rows(engine)["north"]["signing_key"] == new.signing.public.pem.decode()


def test_a_rotation_of_a_hospital_that_is_not_known_is_refused(enrol: Enrol, keys: Callable[[str], SiteKeys]) -> None:
    with pytest.raises(RefusedError, match="not known here"):
        enrol(request_for("north", keys("new"), keys("old").signing))


def test_a_revoked_hospital_stays_out(engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]) -> None:
    north = keys("north")
    enrol(request_for("north", north, None))
    with transaction(engine) as session:
        revoke(session, "north", "left", NOW)
    assert (rows(engine)["north"]["state"], rows(engine)["north"]["revoked"]) == ("revoked", NOW)
    for data in (request_for("north", north, None), request_for("north", keys("new"), north.signing)):
        with pytest.raises(RefusedError, match="is revoked"):
            enrol(data)

    with transaction(engine) as session:
        with pytest.raises(RefusedError, match="revoked already"):
            revoke(session, "north", "left", NOW)
        with pytest.raises(RefusedError, match="is revoked"):
            readmit(session, "north", NOW)

    assert events(engine) == [("north", "enrolled"), ("north", "revoked")]


def test_only_a_suspended_hospital_is_readmitted(engine: Engine, enrol: Enrol, keys: Callable[[str], SiteKeys]) -> None:
    enrol(request_for("north", keys("north"), None))
    with transaction(engine) as session, pytest.raises(RefusedError, match="is active"):
        readmit(session, "north", NOW)
    with transaction(engine) as session:
        row = session.get_one(SiteRow, "north")
        row.state = "suspended"
        row.bad_replies = 3

    with transaction(engine) as session:
        readmit(session, "north", NOW)
    assert (rows(engine)["north"]["state"], rows(engine)["north"]["bad_replies"]) == ("active", 0)


def test_a_hospital_that_does_not_exist_is_an_error(engine: Engine) -> None:
    with transaction(engine) as session, pytest.raises(InputError, match="no site is called 'north'"):
        revoke(session, "north", "left", NOW)


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def request_file(tmp_path: Path, keys: Callable[[str], SiteKeys]) -> Path:
    path = tmp_path / "enrolment-request.json"
    path.write_bytes(request_for("north", keys("north"), None))
    return path


def test_the_commands_from_approval_to_revocation(folder: ServerFolder, request_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "north-join.json"
    here = ("--dir", folder.root)
    read_out = fingerprint(request_file.read_bytes())
    code, printed, _ = invoke("site", "approve", request_file, "--fingerprint", read_out, "--out", out, "--json", *here)
    assert (code, json.loads(printed)) == (0, {"site": "north", "kind": "enrolled", "bundle": str(out)})
    assert dsse.decode_envelope(out.read_bytes()).signatures
    (listed,) = json.loads(invoke("site", "list", "--json", *here)[1])
    assert (listed["name"], listed["state"], listed["waiting"], listed["seen"]) == ("north", "active", 0, None)
    assert "north" in invoke("site", "list", *here)[1]
    assert invoke("site", "revoke", "north", "--reason", "left", *here)[0] == 0
    shown = json.loads(invoke("site", "show", "north", "--json", *here)[1])
    assert shown["state"] == "revoked"
    assert [(event["kind"], event["detail"]) for event in shown["events"]][-1] == ("revoked", "left")
    assert "left" in invoke("site", "show", "north", *here)[1]
    assert invoke("site", "readmit", "north", *here)[0] == 4
    assert invoke("site", "show", "south", *here)[0] == 2


def test_nobody_is_approved_whose_fingerprint_was_not_compared(
    folder: ServerFolder, request_file: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "north-join.json"
    here = ("--dir", folder.root)

    for given, code, message in (
        ((), 2, "was not compared"),
        (("--fingerprint", "ab12"), 2, "64 hexadecimal digits"),
        (("--fingerprint", "ab" * 32), 6, "do not approve it"),
    ):
        found, _, err = invoke("site", "approve", request_file, "--out", out, *given, *here)
        assert (found, message in err) == (code, True)

    assert not out.exists()
    assert rows(engine) == {}


@pytest.mark.parametrize(("answer", "code", "sites"), [("y", 0, ["north"]), ("n", 4, [])])
def test_on_a_terminal_the_fingerprint_is_asked_about(
    folder: ServerFolder, request_file: Path, tmp_path: Path, engine: Engine, answer: str, code: int, sites: list[str]
) -> None:
    ours, theirs = pty.openpty()
    command: list[str | Path] = [Path(sys.executable).with_name("fedforget-server"), "site", "approve", request_file]
    where: list[str | Path] = ["--dir", folder.root, "--out", tmp_path / "north-join.json"]
    with subprocess.Popen([*command, *where], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.write(ours, f"{answer}\n".encode())
        _, asked = process.communicate(timeout=30)

    os.close(ours)
    os.close(theirs)
    assert fingerprint(request_file.read_bytes()) in asked.decode()
    assert process.returncode == code
    assert list(rows(engine)) == sites


def test_a_bundle_that_cannot_be_written_enrols_nobody(
    folder: ServerFolder, request_file: Path, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    read_out = fingerprint(request_file.read_bytes())
    out = tmp_path / "file" / "north-join.json"
    code, _, err = invoke(
        "site", "approve", request_file, "--fingerprint", read_out, "--out", out, "--dir", folder.root
    )
    assert (code, "cannot write" in err) == (2, True)
    assert (rows(engine), events(engine)) == ({}, [])


def test_nobody_is_approved_before_the_model_has_classes(folder: ServerFolder, request_file: Path) -> None:
    text = folder.settings_file.read_text()
    folder.settings_file.write_text(text.replace('classes = ["no", "yes"]', ""))
    read_out = fingerprint(request_file.read_bytes())
    code, _, err = invoke("site", "approve", request_file, "--fingerprint", read_out, "--dir", folder.root)
    assert (code, "classes: at least two labels" in err) == (2, True)


def test_a_signing_key_that_others_can_read_approves_nobody(folder: ServerFolder, request_file: Path) -> None:
    folder.signing_key.chmod(0o644)
    read_out = fingerprint(request_file.read_bytes())
    code, _, err = invoke("site", "approve", request_file, "--fingerprint", read_out, "--dir", folder.root)
    assert (code, "others can read this key" in err) == (2, True)
