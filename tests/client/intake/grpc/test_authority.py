"""The hospital's own authority, by its commands; its certificates are checked by cryptography's verifier."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store
from typer.testing import CliRunner

from client.cli import app
from client.intake.grpc.access import MAY, Caller, Refusal, caller_of, check_may
from client.intake.grpc.authority import withdrawn
from client.membership.setup import SiteRequest, create_site
from client.settings import SiteFolder
from client.settings_sections import ConsentServiceConfig, Role
from common.platform.keys.certificates import certificate_pem, issue_role, load_certificate, new_authority

ROLES = ConsentServiceConfig().roles


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    create_site(tmp_path / "north", SiteRequest("north", "localhost", "0" * 64))
    return SiteFolder(tmp_path / "north")


def run(site: SiteFolder, command: str, *arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["consent-client", command, "--dir", str(site.root), "--json", *arguments])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if not code else " ".join(result.stderr.split())


def test_a_client_gets_a_key_of_its_own_and_a_certificate_with_its_role(site: SiteFolder) -> None:
    assert run(site, "init", "--host", "consent.example.org")["authority_made"] is True
    made = Path(run(site, "add", "ehr-1", "--role", "ehr")["folder"])
    assert sorted(path.name for path in made.iterdir()) == ["ca.crt", "client.crt", "client.key"]
    assert stat.S_IMODE((made / "client.key").stat().st_mode) == 0o600
    ca = load_certificate(made / "ca.crt")
    certificate = load_certificate(made / "client.crt")
    verifier = PolicyBuilder().store(Store([ca])).time(datetime.now(UTC))
    verifier.build_client_verifier().verify(certificate, [])
    server = load_certificate(site.consent_service / "server.crt")
    verifier.build_server_verifier(x509.DNSName("consent.example.org")).verify(server, [])
    assert caller_of((made / "client.crt").read_bytes(), ROLES, frozenset(), datetime.now(UTC)).name == "ehr-1"
    assert caller_of((made / "client.crt").read_bytes(), ROLES, frozenset(), datetime.now(UTC)).role == "ehr"


def test_a_second_init_renews_the_services_certificate_and_keeps_the_clients(site: SiteFolder) -> None:
    run(site, "init")
    run(site, "add", "desk", "--role", "steward")
    before = {path.name: path.read_bytes() for path in site.consent_service.iterdir() if path.is_file()}
    assert run(site, "init", "--host", "other.example.org")["authority_made"] is False
    after = {path.name: path.read_bytes() for path in site.consent_service.iterdir() if path.is_file()}
    assert {name for name in before if before[name] != after[name]} == {"server.crt"}
    assert [row["name"] for row in run(site, "list")] == ["desk"]


def test_a_removed_client_is_refused_and_may_be_added_again(site: SiteFolder) -> None:
    run(site, "init")
    pem = (Path(run(site, "add", "desk", "--role", "steward")["folder"]) / "client.crt").read_bytes()
    assert "has a certificate" in run(site, "add", "desk", "--role", "auditor", code=2)
    assert run(site, "remove", "desk") == {"name": "desk", "withdrawn": 1}
    with pytest.raises(Refusal, match="withdrawn") as refused:
        caller_of(pem, ROLES, withdrawn(site), datetime.now(UTC))
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    new = (Path(run(site, "add", "desk", "--role", "auditor")["folder"]) / "client.crt").read_bytes()
    assert caller_of(new, ROLES, withdrawn(site), datetime.now(UTC)).role == "auditor"
    assert [(row["role"], row["withdrawn"]) for row in run(site, "list")].count(("steward", True)) == 1
    assert "no client of this name" in run(site, "remove", "nobody", code=2)


@pytest.mark.parametrize("name", ["", "Desk", "../ehr", "a" * 33, "-a", "ehr 1"])
def test_a_name_that_is_none_is_refused_and_nothing_is_made(site: SiteFolder, name: str) -> None:
    run(site, "init")
    assert "a client's name" in run(site, "add", "--role", "ehr", "--", name, code=2)
    assert run(site, "list") == []


def test_nobody_gets_a_certificate_before_the_authority_is_there(site: SiteFolder) -> None:
    assert "consent-client init" in run(site, "add", "desk", "--role", "steward", code=2)


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        ({"CN=desk": "steward"}, "steward"),
        ({"urn:fedforget:role:ehr": "ehr"}, "ehr"),
        ({"CN=desk": "ehr", "urn:fedforget:role:ehr": "ehr"}, "ehr"),
        ({"CN=desk": "steward", "urn:fedforget:role:ehr": "ehr"}, None),
        ({"desk": "steward"}, None),
        ({}, None),
    ],
)
def test_a_certificate_has_the_one_role_that_the_settings_give_to_its_names(
    roles: dict[str, Role], role: Role | None
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    pem = certificate_pem(issue_role(new_authority(key, now), key, key.public_key(), "desk", "ehr", now))

    if role is not None:
        assert caller_of(pem, roles, frozenset(), datetime.now(UTC)).role == role
    else:
        with pytest.raises(Refusal, match="no role here, or several"):
            caller_of(pem, roles, frozenset(), datetime.now(UTC))


def test_an_auditor_reads_and_an_ehr_sends_and_neither_does_the_others() -> None:
    allowed = {
        role: {method for method, roles in MAY.items() if role in roles} for role in ("steward", "ehr", "auditor")
    }
    assert allowed["steward"] == set(MAY)
    assert allowed["ehr"] == {"RevokeConsent", "GetRevocation", "CheckPermission", "CheckPermissions"}
    assert allowed["auditor"] == {"GetRevocation", "ListRevocations", "WatchRevocation"}
    with pytest.raises(Refusal, match="the role auditor may not call RevokeConsent"):
        check_may(Caller("a", "auditor", ""), "RevokeConsent")
