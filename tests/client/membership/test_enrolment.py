"""A hospital joins, and changes its keys; the coordinator on the other side is the real one."""

from __future__ import annotations

import base64
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.membership.enrolment import _with_addresses, join, rotate
from client.membership.setup import SiteRequest, create_site
from client.settings import SiteFolder
from common.errors import ConfigError, EvidenceError, InputError, OutputError, RefusedError
from common.evidence import dsse
from common.evidence.keys import SigningKey
from common.evidence.schema import decode, encode
from common.platform.keys.certificates import (
    certificate_fingerprint,
    certificate_pem,
    fingerprint,
    issue_server,
    issue_signer,
    issue_site,
    load_certificate,
)
from common.platform.keys.private_keys import load_ec_key
from common.platform.sql import open_database, transaction
from common.protocol.enrolment import JOIN_TYPE, JoinBundle
from server.membership.enrolment import Authority, approve, open_authority, read_request
from server.membership.setup import create_server
from server.settings import ServerFolder

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Approve = Callable[..., bytes]


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    create_server(tmp_path / "federation", ["fed.example.org"], NOW, ["no", "yes"])
    return ServerFolder(tmp_path / "federation")


@pytest.fixture
def authority(server: ServerFolder) -> Authority:
    return open_authority(server)


@pytest.fixture
def hospital(tmp_path: Path, authority: Authority) -> Callable[[str], SiteFolder]:
    def make(name: str) -> SiteFolder:
        ca = certificate_fingerprint(authority.ca)
        create_site(tmp_path / name, SiteRequest(name, "fed.example.org:9443", ca))
        return SiteFolder(tmp_path / name)

    return make


@pytest.fixture
def north(hospital: Callable[[str], SiteFolder]) -> SiteFolder:
    return hospital("north")


@pytest.fixture
def approved(server: ServerFolder, authority: Authority) -> Approve:
    """What the coordinator sends back for the request in a hospital's folder."""

    def bundle(site: SiteFolder, now: datetime = NOW) -> bytes:
        engine = open_database(server.database_url(server.settings()))
        try:
            with transaction(engine) as session:
                checked = read_request(session, site.request_file.read_bytes())
                return approve(session, authority, checked, now).bundle
        finally:
            engine.dispose()

    return bundle


def content(site: SiteFolder) -> dict[str, bytes]:
    return {str(path.relative_to(site.root)): path.read_bytes() for path in site.root.rglob("*") if path.is_file()}


def resigned(data: bytes, key: SigningKey, **fields: object) -> bytes:
    """The bundle with other fields, signed with `key`."""
    body = decode(JoinBundle, dsse.decode_envelope(data).body)
    other = replace(body, **fields)  # type: ignore[arg-type]  # any field
    return dsse.encode_envelope(dsse.sign(JOIN_TYPE, encode(other), key))


def test_a_new_hospital_has_keys_that_only_it_can_read(north: SiteFolder) -> None:
    assert north.root.stat().st_mode & 0o077 == 0
    for path in (north.tls_key, north.node_key, north.signing_key, north.passphrase, north.supernode_secret):
        assert path.stat().st_mode & 0o777 == 0o600
    settings = north.settings()
    assert (settings.name, settings.gateway) == ("north", "fed.example.org:9443")
    assert settings.coordination == "fed.example.org:8444"
    assert not north.certificate.exists()


def test_no_private_key_is_in_the_request(north: SiteFolder) -> None:
    body = dsse.decode_envelope(north.request_file.read_bytes()).body
    for path in (north.tls_key, north.node_key, north.signing_key, north.passphrase, north.supernode_secret):
        assert max(path.read_bytes().splitlines(), key=len) not in body
    assert max(north.node_key.with_suffix(".pub").read_bytes().split(), key=len) in body


def test_what_is_commented_out_in_the_settings_is_valid_too(north: SiteFolder) -> None:
    plain = north.settings()
    lines = north.settings_file.read_text().splitlines()
    settings = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    north.settings_file.write_text("\n".join(settings))
    assert north.settings() == plain


def test_a_hospital_that_joins_has_what_it_connects_with(
    north: SiteFolder, approved: Approve, authority: Authority
) -> None:
    bundle = approved(north)
    join(north, bundle, NOW)
    assert load_certificate(north.ca_certificate) == authority.ca
    assert load_certificate(north.certificate).public_key() == load_ec_key(north.tls_key).public_key()
    assert north.coordinator_key.read_bytes() == authority.signing.public.pem
    assert north.join_file.read_bytes() == bundle
    assert north.settings().gateway == "fed.example.org:8443"


def test_a_hospital_gets_the_model_that_the_federation_trains(
    north: SiteFolder, approved: Approve, server: ServerFolder
) -> None:
    from client.cohort.imports.data_import import check_card
    from client.cohort.imports.import_source import read_card
    from server.campaign.context import open_house

    join(north, approved(north), NOW)
    card = read_card(north.experiment_file)
    assert card == open_house(server.root).card
    check_card(card)


def test_joining_twice_is_joining_once(north: SiteFolder, approved: Approve) -> None:
    bundle = approved(north)
    join(north, bundle, NOW)
    once = content(north)
    join(north, bundle, NOW)
    assert content(north) == once


def test_joining_leaves_the_rest_of_the_settings_as_they_were(north: SiteFolder, approved: Approve) -> None:
    text = north.settings_file.read_text() + "\n# ours\n[ports]\nmonitor = 19999\n"
    north.settings_file.write_text(text)
    join(north, approved(north), NOW)
    assert north.settings_file.read_text() == text.replace(":9443", ":8443")


def test_a_hospital_that_joins_changes_nothing_for_the_others(
    north: SiteFolder, hospital: Callable[[str], SiteFolder], approved: Approve
) -> None:
    join(north, approved(north), NOW)
    before = content(north)
    south = hospital("south")
    join(south, approved(south), NOW)
    assert content(north) == before


def refuses(site: SiteFolder, data: bytes, message: str, now: datetime = NOW) -> None:
    before = content(site)
    with pytest.raises(EvidenceError, match=message):
        join(site, data, now)
    assert content(site) == before


def test_a_bundle_of_another_federation_is_refused(
    north: SiteFolder, approved: Approve, authority: Authority, tmp_path: Path
) -> None:
    other = create_server(tmp_path / "other", ["fed.example.org"], NOW, ["no", "yes"])
    text = north.settings_file.read_text().replace(certificate_fingerprint(authority.ca), other)
    north.settings_file.write_text(text)
    refuses(north, approved(north), "from another federation")


def test_a_coordinator_that_the_authority_does_not_vouch_for_is_refused(
    north: SiteFolder, approved: Approve, authority: Authority, tmp_path: Path
) -> None:
    """All of the bundle is public, so anybody can sign it again: the key must come from the authority."""
    create_server(tmp_path / "other", ["fed.example.org"], NOW, ["no", "yes"])
    rogue = open_authority(ServerFolder(tmp_path / "other"))
    thief = rogue.signing
    bundle = approved(north)
    refuses(north, resigned(bundle, thief), "not among the pinned keys")
    own = issue_signer(rogue.ca, rogue.ca_key, thief.public, NOW)
    refuses(north, resigned(bundle, thief, coordinator=certificate_pem(own).decode()), "not issued by")


def test_another_hospital_cannot_pass_for_the_coordinator(
    north: SiteFolder, approved: Approve, authority: Authority
) -> None:
    bundle = approved(north)
    thief = SigningKey.generate("ecdsa-p256")
    key = load_ec_key(north.tls_key).public_key()
    wrong = [
        issue_site(authority.ca, authority.ca_key, key, "south", NOW),
        issue_server(authority.ca, authority.ca_key, key, ["fed.example.org"], NOW),
    ]
    for certificate in wrong:
        forged = resigned(bundle, thief, coordinator=certificate_pem(certificate).decode())
        refuses(north, forged, "issued for another purpose")


def test_a_bundle_that_was_changed_after_signing_is_refused(north: SiteFolder, approved: Approve) -> None:
    envelope = dsse.decode_envelope(approved(north))
    body = envelope.body.replace(b"fed.example.org:8443", b"bad.example.org:8443")
    forged = replace(envelope, payload=base64.b64encode(body).decode())
    refuses(north, dsse.encode_envelope(forged), "does not fit the signed content")


def test_a_bundle_for_another_hospital_is_refused(
    north: SiteFolder, hospital: Callable[[str], SiteFolder], approved: Approve, authority: Authority
) -> None:
    south = hospital("south")
    for_south = approved(south)
    refuses(north, for_south, "for the site 'south', not for 'north'")
    refuses(north, resigned(for_south, authority.signing, site="north"), "not for 'north'")


def test_a_certificate_for_a_key_that_is_not_here_is_refused(
    north: SiteFolder, hospital: Callable[[str], SiteFolder], approved: Approve, authority: Authority
) -> None:
    key = load_ec_key(hospital("south").tls_key).public_key()
    certificate = issue_site(authority.ca, authority.ca_key, key, "north", NOW)
    forged = resigned(approved(north), authority.signing, certificate=certificate_pem(certificate).decode())
    refuses(north, forged, "for a key that is not in this folder")


def test_an_expired_bundle_is_refused(north: SiteFolder, approved: Approve) -> None:
    refuses(north, approved(north), "this site's certificate expired on 2027-11-24", NOW + timedelta(days=366))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 10_000])
def test_rubbish_is_no_bundle(north: SiteFolder, data: bytes) -> None:
    refuses(north, data, "JSON|document")


def test_a_key_that_others_can_read_is_not_used(north: SiteFolder, approved: Approve) -> None:
    north.tls_key.chmod(0o644)
    with pytest.raises(InputError, match="others can read this key"):
        join(north, approved(north), NOW)


def test_new_keys_lie_beside_the_old_until_the_bundle_comes(north: SiteFolder, approved: Approve) -> None:
    join(north, approved(north), NOW)
    paths = (north.tls_key, north.node_key, north.signing_key, north.certificate)
    before = [path.read_bytes() for path in paths]
    rotate(north)
    assert [path.read_bytes() for path in paths] == before
    bundle = approved(north, NOW + timedelta(days=300))
    join(north, bundle, NOW + timedelta(days=300))
    after = [path.read_bytes() for path in paths]
    assert all(new != old for new, old in zip(after, before, strict=True))
    everything = b"".join(content(north).values())
    assert not any(private in everything for private in before[:3])
    assert load_certificate(north.certificate).not_valid_after_utc == NOW + timedelta(days=665)
    assert {path.name for path in north.root.glob("keys*")} == {"keys", "keys-2"}


def test_an_interrupted_switch_is_finished_by_joining_again(north: SiteFolder, approved: Approve) -> None:
    join(north, approved(north), NOW)
    old = north.tls_key.read_bytes()
    rotate(north)
    bundle = approved(north)
    (obstacle := north.root / ".keys.part" / "obstacle").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot write"):
        join(north, bundle, NOW)
    assert north.tls_key.read_bytes() == old
    assert load_certificate(north.certificate).public_key() == load_ec_key(north.tls_key).public_key()
    shutil.rmtree(obstacle.parent)
    join(north, bundle, NOW)
    assert north.tls_key.read_bytes() != old
    assert load_certificate(north.certificate).public_key() == load_ec_key(north.tls_key).public_key()


def test_the_bundle_before_a_rotation_does_not_bring_the_old_keys_back(north: SiteFolder, approved: Approve) -> None:
    first = approved(north)
    join(north, first, NOW)
    rotate(north)
    join(north, approved(north), NOW)
    refuses(north, first, "for a key that is not in this folder")


def test_a_second_rotation_waits_for_the_first(north: SiteFolder, approved: Approve) -> None:
    join(north, approved(north), NOW)
    rotate(north)
    before = content(north)
    with pytest.raises(RefusedError, match="a rotation is waiting"):
        rotate(north)
    assert content(north) == before
    join(north, approved(north), NOW)
    rotate(north)
    join(north, approved(north), NOW)
    assert north.tls_key.parent.resolve().name == "keys-3"


def test_old_keys_that_could_not_be_removed_stand_in_nobodys_way(north: SiteFolder, approved: Approve) -> None:
    join(north, approved(north), NOW)
    rotate(north)
    shutil.copytree(north.root / "keys-1", north.root / "left")
    join(north, approved(north), NOW)
    (north.root / "left").rename(north.root / "keys-1")
    rotate(north)
    join(north, approved(north), NOW)
    assert {path.name for path in north.root.glob("keys*")} == {"keys", "keys-3"}


@pytest.mark.parametrize("server", ["", "https://fed", "fed:0", "fed:65536", "fed:x", "fed example", "::1"])
def test_an_address_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path, server: str) -> None:
    with pytest.raises(ConfigError, match="HOST or HOST:PORT"):
        create_site(tmp_path / "north", SiteRequest("north", server, "ab" * 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("server", "gateway"), [("fed", "fed:8443"), ("[::1]", "[::1]:8443"), ("192.0.2.7:443", "192.0.2.7:443")]
)
def test_the_gateways_port_has_a_default(tmp_path: Path, server: str, gateway: str) -> None:
    create_site(tmp_path / "north", SiteRequest("north", server, "ab" * 32))
    assert SiteFolder(tmp_path / "north").settings().gateway == gateway


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_commands_from_init_to_rotation(
    tmp_path: Path, server: ServerFolder, authority: Authority, approved: Approve
) -> None:
    site = SiteFolder(tmp_path / "north")
    bundle = tmp_path / "north-join.json"
    given = ("--server", "fed.example.org", "--name", "north", "--ca-fingerprint")
    code, out, _ = invoke("init", site.root, *given, certificate_fingerprint(authority.ca), "--json")
    printed = json.loads(out)
    assert (code, printed["fingerprint"]) == (0, fingerprint(site.request_file.read_bytes()))
    assert Path(printed["request"]) == site.request_file
    bundle.write_bytes(approved(site, datetime.now(UTC)))
    code, out, _ = invoke("join", bundle, "--dir", site.root, "--json")
    assert (code, json.loads(out)["gateway"]) == (0, "fed.example.org:8443")
    assert invoke("rotate", "--dir", site.root)[0] == 0
    assert invoke("rotate", "--dir", site.root)[0] == 4
    bundle.write_bytes(approved(site, datetime.now(UTC)))
    assert invoke("join", bundle, "--dir", site.root)[0] == 0
    assert invoke("join", tmp_path / "nothing", "--dir", site.root)[0] == 2
    bundle.write_bytes(b"{}")
    code, _, err = invoke("join", bundle, "--dir", site.root)
    assert (code, err.count("\n")) == (6, 1)


def test_init_never_overwrites(north: SiteFolder) -> None:
    before = content(north)
    given = ("--server", "fed.example.org", "--name", "north", "--ca-fingerprint", "ab" * 32)
    code, _, err = invoke("init", north.root, *given)
    assert (code, "not empty" in err) == (2, True)
    assert content(north) == before


def test_an_address_with_any_character_is_written_as_it_is(tmp_path: Path) -> None:
    folder = SiteFolder(tmp_path)
    folder.settings_file.write_text('# ours\ngateway = "a:1"\ncoordination = "a:2"\n')
    address = "klinik-mü\\1.example:8443"
    bundle = SimpleNamespace(gateway=address, coordination="b:2")
    text = _with_addresses(folder, bundle)  # type: ignore[arg-type]  # of a bundle, its addresses
    assert tomllib.loads(text) == {"gateway": address, "coordination": "b:2"}
    assert text.startswith("# ours\n")
