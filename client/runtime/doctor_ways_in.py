"""The doctor's checks of the interfaces for revocations, whether or not they are running. Counts only, never names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from client.intake.enumerations import ENUMERATION_FILE, read_enumerations
from client.intake.fhir.patients import read_patient_map
from client.intake.fhir.pull.links import check_address
from client.intake.grpc.authority import clients, withdrawn
from client.membership.proxy import proxy_of
from client.settings import SiteFolder, SiteSettings
from client.settings_sections import ConsentServiceConfig, FhirConfig
from common.errors import ConfigError, InputError
from common.evidence.keys import PublicKey
from common.files import read_private
from common.platform import checks
from common.platform.checks import Check
from common.platform.console.settings import ConsoleConfig
from common.platform.keys.certificates import load_certificate
from common.platform.processes import probes
from common.platform.processes.service import accepts

_RENEW = "fedforget-site consent-client init --host NAME, then restart"
_HTTPS = 443
_REMEMBERED = timedelta(days=30)


def examine_ways_in(folder: SiteFolder, settings: SiteSettings, now: datetime, *, up_runs: bool) -> Iterator[Check]:
    """Check the interfaces that `site.toml` enables."""
    if settings.consent_service.enabled:
        yield from _consent_service(folder, settings.consent_service, now, up_runs=up_runs)
    if settings.fhir.enabled:
        yield from _fhir(folder, settings, now, up_runs=up_runs)
    if settings.console.enabled:
        yield from _console(folder, settings.console, now, up_runs=up_runs)
    if settings.inbox.enabled:
        yield from _inbox(folder, settings.inbox.keys)


def _console(folder: SiteFolder, config: ConsoleConfig, now: datetime, *, up_runs: bool) -> Iterator[Check]:
    if config.certificate or config.key:
        remedy = "have it issued again, then restart"
        yield from _tls("console", folder, config.certificate, config.key, "", now, remedy)
    yield _port("console", config.host, config.port, up_runs=up_runs)


def _consent_service(
    folder: SiteFolder, config: ConsentServiceConfig, now: datetime, *, up_runs: bool
) -> Iterator[Check]:
    name = "consent service"
    yield from _tls(name, folder, config.certificate, config.key, config.client_ca, now, _RENEW)

    try:
        withdrawn_clients = withdrawn(folder)
        active = [c for c in clients(folder) if not c.withdrawn]
    except InputError as err:
        yield Check(f"{name} clients", "fail", err.problem, err.remedy)
    else:
        detail = f"{len(active)} certificates issued by this site, {len(withdrawn_clients)} withdrawn"
        yield checks.ok(f"{name} clients", detail)

        # The first one to end cuts off a program of the hospital that sends withdrawals.
        if active:
            first = min(client.until for client in active)
            remedy = "see fedforget-site consent-client list; remove and add again the clients in use"
            yield checks.validity(f"{name} clients' first end", first, now, remedy)

    yield from _enumerations(folder, now)
    yield _port(name, config.host, config.port, up_runs=up_runs)


def _enumerations(folder: SiteFolder, now: datetime) -> Iterator[Check]:
    last_enumerations = read_enumerations(folder.consent_service / ENUMERATION_FILE).last
    for client, last in sorted(last_enumerations.items()):
        if now - last < _REMEMBERED:
            detail = f"{client} asked for many unknown people, last on {last:%Y-%m-%d}"
            remedy = "ask who runs it; consent-client remove blocks it, unknown_per_hour allows more"
            yield Check("consent service clients' questions", "warn", detail, remedy)


def fhir_address(config: FhirConfig) -> str:
    """`host:port` of the FHIR server to pull from; raises a `ConfigError` if the setting is not an address."""
    url = httpx.URL(check_address(config.server, "fhir.server"))
    return f"{url.host}:{url.port or _HTTPS}"


def _fhir(folder: SiteFolder, settings: SiteSettings, now: datetime, *, up_runs: bool) -> Iterator[Check]:
    config = settings.fhir
    secret_files = [folder.pseudonym_secret]
    secret_files += [folder.root / config.token_file] if config.token_file else []
    secret_files += [folder.fhir_key] if config.client_id else []
    for check in checks.secrets(secret_files):
        yield Check(f"FHIR {check.name}", check.result, check.detail, check.remedy)
    if config.certificate or config.key:
        remedy = "have it issued again, then restart"
        yield from _tls("FHIR", folder, config.certificate, config.key, config.client_ca, now, remedy)

    if config.patient_map:
        try:
            patient_map = read_patient_map(folder.root / config.patient_map)
        except InputError as err:
            yield Check("FHIR patient map", "fail", "unusable", f"fix {config.patient_map}: {err.problem}")
        else:
            yield checks.ok("FHIR patient map", f"{len(patient_map.by_key or {})} patients")

    for last in read_enumerations(folder.fhir_enumeration).last.values():
        if now - last < _REMEMBERED:
            detail = f"withdrawals of many unknown people came in, last on {last:%Y-%m-%d}; receipts gave no numbers"
            yield Check("FHIR withdrawals of unknown people", "warn", detail, "ask who runs the client that sent them")

    yield _port("FHIR", config.host, config.port, up_runs=up_runs)
    if config.server:
        try:
            address = fhir_address(config)
            proxy = proxy_of(settings)
        except ConfigError as err:
            yield Check("FHIR server name", "fail", f"{err.where}: {err.problem}", err.remedy)
        else:
            yield from probes.service("FHIR server", address, proxy)


def _inbox(folder: SiteFolder, keys: tuple[str, ...]) -> Iterator[Check]:
    name = "inbox"
    if not keys:
        yield Check(f"{name} keys", "fail", "none configured", 'set keys = ["consent-office.pem"] under [inbox]')
    bad = [number for number, key in enumerate(keys, 1) if not _is_public_key(folder.root / key)]
    if bad:
        numbers = ", ".join(map(str, bad))
        yield Check(f"{name} keys", "fail", f"not a public key: number {numbers}", "check [inbox] keys in site.toml")
    elif keys:
        yield checks.ok(f"{name} keys", f"{len(keys)} accepted")

    if folder.inbox.exists():
        folder_check = probes.writable(folder.inbox)
        yield Check(
            f"{name} {folder_check.name}",
            folder_check.result,
            folder_check.detail,
            folder_check.remedy and "check the owner of inbox/",
        )


def _tls(
    name: str, folder: SiteFolder, certificate: str, key: str, authority: str, now: datetime, renew: str
) -> Iterator[Check]:
    """Check that a server can start with these: readable, a matching pair, a private key, nothing expired."""
    try:
        read_private(folder.root / key)
        server_certificate = load_certificate(folder.root / certificate)
        authorities = [load_certificate(folder.root / authority)] if authority else []
        # OpenSSL compares key and certificate, whatever the kind of key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder.root / certificate, folder.root / key)
    except InputError as err:
        yield Check(f"{name} TLS", "fail", err.problem, err.remedy)
        return
    except (ssl.SSLError, OSError):
        yield Check(f"{name} TLS", "fail", "the key does not match the certificate, or has a passphrase", renew)
        return

    yield checks.ok(f"{name} TLS", "certificate and key match")
    yield checks.validity(f"{name} certificate", server_certificate.not_valid_after_utc, now, renew)
    for ca in authorities:
        yield checks.validity(f"{name} clients' authority", ca.not_valid_after_utc, now, "create a new one", 90)


def _port(name: str, host: str, port: int, *, up_runs: bool) -> Check:
    return checks.port(name, port, taken=accepts(host, port)(), up_runs=up_runs)


def _is_public_key(path: Path) -> bool:
    try:
        PublicKey.from_pem(path.read_bytes())
    except (OSError, InputError):
        return False

    return True
