"""The doctor's look at the ways in for revocations: what each needs, whether or not it runs. Counts, never names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from client.intake.fhir.patients import read_patient_map
from client.intake.fhir.pull.links import check_address
from client.intake.grpc.authority import clients, withdrawn
from client.intake.grpc.lookups import ENUMERATION_FILE, read_enumerations
from client.membership.proxy import proxy_of
from client.settings import ConsentServiceConfig, FhirConfig, SiteFolder, SiteSettings
from common.errors import ConfigError, InputError
from common.evidence.keys import PublicKey
from common.files import read_private
from common.platform import checks
from common.platform.checks import Check
from common.platform.keys.certificates import load_certificate
from common.platform.processes import probes
from common.platform.processes.service import accepts

_RENEW = "fedforget-site consent-client init --host NAME, and start again"
_HTTPS = 443
_REMEMBERED = timedelta(days=30)


def examine_ways_in(folder: SiteFolder, settings: SiteSettings, now: datetime, *, up_runs: bool) -> Iterator[Check]:
    """Checks of those that `site.toml` enables."""
    if settings.consent_service.enabled:
        yield from _consent_service(folder, settings.consent_service, now, up_runs=up_runs)
    if settings.fhir.enabled:
        yield from _fhir(folder, settings, now, up_runs=up_runs)
    if settings.inbox.enabled:
        yield from _inbox(folder, settings.inbox.keys)


def _consent_service(
    folder: SiteFolder, config: ConsentServiceConfig, now: datetime, *, up_runs: bool
) -> Iterator[Check]:
    name = "consent service"
    yield from _tls(name, folder, config.certificate, config.key, config.client_ca, now, _RENEW)

    try:
        gone = withdrawn(folder)
        soon = [c for c in clients(folder) if not c.withdrawn]
    except InputError as err:
        yield Check(f"{name} clients", "fail", err.problem, err.remedy)
    else:
        detail = f"{len(soon)} certificates of this site's authority, {len(gone)} withdrawn"
        yield checks.ok(f"{name} clients", detail)

        if soon:
            first = min(client.until for client in soon)
            remedy = "fedforget-site consent-client list; remove and add what still is in use"
            yield checks.validity(f"{name} clients' first end", first, now, remedy)

    yield from _enumerations(folder, now)
    yield _port(name, config.host, config.port, up_runs=up_runs)


def _enumerations(folder: SiteFolder, now: datetime) -> Iterator[Check]:
    found = read_enumerations(folder.consent_service / ENUMERATION_FILE).last
    for client, last in sorted(found.items()):
        if now - last < _REMEMBERED:
            detail = f"{client} asked for many people in vain, last on {last:%Y-%m-%d}"
            remedy = "ask who runs it; consent-client remove ends it; unknown_per_hour allows more"
            yield Check("consent service clients' questions", "warn", detail, remedy)


def fhir_address(config: FhirConfig) -> str:
    """`host:port` of the FHIR server that is pulled from; a `ConfigError` where the setting is no address."""
    url = httpx.URL(check_address(config.server, "fhir.server"))
    return f"{url.host}:{url.port or _HTTPS}"


def _fhir(folder: SiteFolder, settings: SiteSettings, now: datetime, *, up_runs: bool) -> Iterator[Check]:
    config = settings.fhir
    needed = [folder.pseudonym_secret]
    needed += [folder.root / config.token_file] if config.token_file else []
    needed += [folder.fhir_key] if config.client_id else []
    for check in checks.secrets(needed):
        yield Check(f"FHIR {check.name}", check.result, check.detail, check.remedy)
    if config.certificate or config.key:
        remedy = "have it issued again, and start again"
        yield from _tls("FHIR", folder, config.certificate, config.key, config.client_ca, now, remedy)

    if config.patient_map:
        try:
            found = read_patient_map(folder.root / config.patient_map)
        except InputError as err:
            yield Check("FHIR patient map", "fail", "cannot be used", f"mend {config.patient_map}: {err.problem}")
        else:
            yield checks.ok("FHIR patient map", f"{len(found.by_key or {})} patients")

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
        yield Check(f"{name} keys", "fail", "none is named", 'set keys = ["consent-office.pem"] under [inbox]')
    bad = [number for number, key in enumerate(keys, 1) if not _is_public_key(folder.root / key)]
    if bad:
        numbers = ", ".join(map(str, bad))
        yield Check(f"{name} keys", "fail", f"not a public key: number {numbers}", "check [inbox] keys in site.toml")
    elif keys:
        yield checks.ok(f"{name} keys", f"{len(keys)} whose lists are taken")

    if folder.inbox.exists():
        found = probes.writable(folder.inbox)
        yield Check(f"{name} {found.name}", found.result, found.detail, found.remedy and "check the owner of inbox/")


def _tls(
    name: str, folder: SiteFolder, certificate: str, key: str, authority: str, now: datetime, renew: str
) -> Iterator[Check]:
    """Can a server start with these: readable, one pair, the key private, and nothing expired?"""
    try:
        read_private(folder.root / key)
        found = load_certificate(folder.root / certificate)
        authorities = [load_certificate(folder.root / authority)] if authority else []
        # Whether a key is that of a certificate is OpenSSL's to say, for any kind of key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder.root / certificate, folder.root / key)
    except InputError as err:
        yield Check(f"{name} TLS", "fail", err.problem, err.remedy)
        return
    except (ssl.SSLError, OSError):
        yield Check(f"{name} TLS", "fail", "the key is not that of the certificate, or has a passphrase", renew)
        return

    yield checks.ok(f"{name} TLS", "certificate and key fit")
    yield checks.validity(f"{name} certificate", found.not_valid_after_utc, now, renew)
    for ca in authorities:
        yield checks.validity(f"{name} clients' authority", ca.not_valid_after_utc, now, "make another", 90)


def _port(name: str, host: str, port: int, *, up_runs: bool) -> Check:
    return checks.port(name, port, taken=accepts(host, port)(), up_runs=up_runs)


def _is_public_key(path: Path) -> bool:
    try:
        PublicKey.from_pem(path.read_bytes())
    except (OSError, InputError):
        return False

    return True
