"""`fedforget-server doctor`: what fails in practice at the coordinator, each with its remedy."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from common.errors import ConfigError, EvidenceError, FedForgetError, InputError, UnavailableError
from common.installation import own_version
from common.platform import checks
from common.platform.checks import GIB, Check
from common.platform.keys.certificates import SERVER, check_issued, load_certificate
from common.platform.keys.private_keys import load_ec_key, load_signing_key
from common.platform.notices.checking import examine_notices
from common.platform.processes import probes
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.service import accepts, dialled
from common.platform.processes.up_lock import is_up, start_command
from common.platform.sql import open_database, reading
from server.attestation.event_log import examine as found_wrong
from server.attestation.event_log import server_log
from server.campaign.waiting import site_states
from server.database import CampaignRow, SiteRow, pending_migration
from server.membership.conduct import LOOKED_AT, conduct
from server.membership.registration import waiting
from server.registry.exports import to_recall
from server.runtime.notices import server_channels
from server.runtime.up import secrets_of
from server.settings import PolicyConfig, ServerFolder, ServerSettings

DISK = 20 * GIB
MEMORY = 8 * GIB
"""Versions of a model of some 100 M parameters beside Flower's database; replies of a round in the ServerApp."""
_SILENT = timedelta(minutes=10)
_RENEW = "fedforget-server certificate renew; `up` does it by itself if pki/ca.key is here"
_RESTORE = "restore pki/ from the backup"


def examine(folder: ServerFolder, now: datetime, *, opens_keys: bool = True) -> list[Check]:
    """Every check, in the order in which a failure of one explains those after it.

    Args:
        opens_keys: False where the process cannot read the keys, as in the console; checks that need them are left out.
    """
    findings = [probes.writable(folder.root)]

    try:
        settings = folder.settings()
    except ConfigError as err:
        # Everything below reads the settings.
        return [*findings, Check("server.toml", "fail", err.problem, err.remedy or "correct the file")]

    up_runs = is_up(folder.root)
    findings += [checks.ok("server.toml", "valid"), probes.software()]
    if opens_keys:
        findings += [*checks.secrets(secrets_of(folder)), _signing(folder), *_certificates(folder, settings, now)]
    findings += _names(settings)
    findings += _ports(settings, up_runs=up_runs)

    if not up_runs:
        findings.append(checks.up_runs(start_command("server", folder.root)))
    else:
        findings += probes.processes(settings.ports.monitor)
        remedy = "see logs/coordinator.jsonl; it may have just begun"
        findings.append(checks.beat(folder.tick.name, folder.tick.age(), folder.tick.limit, remedy))
        address = probes.split(settings.gateway_address)
        # Behind one port nothing but what stands in front answers by this name.
        at = "" if settings.ports.public_gateway else dialled(settings.ports.listen)
        findings += probes.tls(address, folder.ca_certificate, now, 5.0, at=at)

    try:
        channels = server_channels(folder, settings)
    except ConfigError as err:
        findings.append(Check("proxy", "fail", f"{err.where}: {err.problem}", err.remedy))
    else:
        findings += examine_notices(channels, now, up_runs=up_runs, opens_secrets=opens_keys)

    findings += _database(folder, settings, now)

    return [*findings, probes.disk(folder.root, DISK), probes.memory(MEMORY)]


def _signing(folder: ServerFolder) -> Check:
    try:
        load_signing_key(folder.signing_key, folder.passphrase)
    except InputError as err:
        return Check("signing key", "fail", err.problem, err.remedy or _RESTORE)

    return checks.ok("signing key", "opens")


def _certificates(folder: ServerFolder, settings: ServerSettings, now: datetime) -> Iterator[Check]:
    try:
        ca = load_certificate(folder.ca_certificate)
        certificate = load_certificate(folder.certificate)
    except InputError as err:
        yield Check("certificates", "fail", str(err), _RESTORE)
        return

    yield checks.validity("authority", ca.not_valid_after_utc, now, "plan a new federation: sites join it anew", 365)
    yield checks.validity("certificate", certificate.not_valid_after_utc, now, _RENEW)

    try:
        check_issued(certificate, ca, SERVER, now, "it")
        if load_ec_key(folder.key).public_key() != certificate.public_key():
            raise EvidenceError("it was issued for another key than pki/server.key")
    except (EvidenceError, InputError) as err:
        yield Check("certificate chain", "fail", str(err), _RENEW)

    missing = [host for host in settings.hosts if host not in _named(certificate)]
    if missing:
        yield Check("certificate names", "fail", f"{', '.join(missing)} not in the certificate", _RENEW)
    else:
        yield checks.ok("certificate names", ", ".join(settings.hosts))


def _named(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()

    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset({*names.get_values_for_type(x509.DNSName), *map(str, addresses)})


def _names(settings: ServerSettings) -> Iterator[Check]:
    """Hospitals may resolve names that this machine does not, so that is only a warning."""
    for host in settings.hosts:
        name = f"name {host}"
        try:
            ipaddress.ip_address(host)
        except ValueError:
            try:
                socket.getaddrinfo(host, None)
            except OSError:
                yield Check(name, "warn", "does not resolve here", "enter it in the DNS that the hospitals use")
            else:
                yield checks.ok(name, "resolves")


def _ports(settings: ServerSettings, *, up_runs: bool) -> Iterator[Check]:
    ports = settings.ports
    outside = dialled(settings.ports.listen)
    own = [("gateway", outside, ports.gateway)] if ports.own_gateway else []
    if not own:
        yield _foreign_gateway(ports.gateway, taken=accepts(outside, ports.gateway)())
    for name, host, number in (
        *own,
        ("coordination", outside, ports.coordination),
        ("superlink", LOOPBACK, ports.superlink),
        ("monitor", LOOPBACK, ports.monitor),
    ):
        yield checks.port(name, number, taken=accepts(host, number)(), up_runs=up_runs)


def _foreign_gateway(number: int, *, taken: bool) -> Check:
    name = f"port {number} (gateway)"
    if taken:
        return checks.ok(name, "served by another program, as own_gateway = false says")
    return Check(name, "fail", "own_gateway = false, and nothing listens here", "start nginx with deploy/nginx.conf")


def _database(folder: ServerFolder, settings: ServerSettings, now: datetime) -> Iterator[Check]:
    """The schema, and what the sites last said."""
    try:
        engine = open_database(folder.database_url(settings))
    except (InputError, UnavailableError) as err:
        detail, remedy = (err.problem, err.remedy) if isinstance(err, InputError) else (str(err), "start the database")
        yield Check("database", "fail", detail, remedy)
        return

    try:
        pending = pending_migration(engine)
        yield checks.schema(pending, "fedforget-server up migrates it")

        if pending is None:
            with reading(engine) as session:
                sites = [
                    (site.name, site.state, site.seen, site.version)
                    for site in session.scalars(select(SiteRow).order_by(SiteRow.name))
                ]

            for name, state, last_seen, version in sites:
                if state != "revoked":
                    yield _site(name, state, last_seen, version, now)

            with reading(engine) as session:
                yield from _campaigns(session, settings.policy, now)
                yield from _conduct(session, now)
                yield from _exports(session)

            yield from _log(folder, engine, now)
    except InputError as err:
        yield Check("database", "fail", err.problem, err.remedy or "see logs/")
    except FedForgetError as err:
        yield Check("database", "fail", str(err), "see logs/")
    finally:
        engine.dispose()


def _log(folder: ServerFolder, engine: Engine, now: datetime) -> Iterator[Check]:
    log = server_log(lambda: now)
    try:
        owner = load_signing_key(folder.signing_key, folder.passphrase).public
    except InputError:
        return

    with reading(engine) as session:
        troubles = {peer.origin: peer.trouble for peer in log.peers(session) if peer.trouble}
        size = len(log.leaves(session))
        problems = found_wrong(session, log, owner)

    yield from checks.log(size, problems, troubles, "fedforget-server log")


def _campaigns(session: Session, policy: PolicyConfig, now: datetime) -> Iterator[Check]:
    """Patients who wait and are not forgotten, and why."""
    sites = site_states(session, policy)

    for site in sites:
        due = site.due(policy)
        row = f"revocations at {site.name}"
        by_hand = "fix what it says, then fedforget-server campaign start"

        if site.pending and site.needs_person(policy):
            yield Check(row, "fail", f"{site.failures} campaigns in a row failed; {site.last_failure}", by_hand)
        elif site.pending and due is not None and due < now:
            yield Check(row, "fail", f"due since {due:%Y-%m-%d %H:%M} UTC", "fedforget-server campaign list")
        elif site.pending and site.failures:
            yield Check(row, "warn", site.last_failure, by_hand)

        if site.pending and site.leaves_it_to_others(policy):
            detail = f"retrained around {site.retrainings} times, and it has not unlearned since"
            yield Check(row, "warn", detail, "docs/how-to/incident.md")

        if site.active and site.aside_until is not None and now < site.aside_until:
            detail = f"does not unlearn, set aside until {site.aside_until:%Y-%m-%d %H:%M} UTC"
            yield Check(row, "warn", detail, "fedforget-site doctor there")

        if (count := waiting(session, site.name)) is not None:
            detail = f"{count.train_studies} registered, {count.reason}"
            remedy = f"ask the hospital, then fedforget-server site approve-counts {site.name} {count.train_studies}"
            yield Check(f"studies of {site.name}", "warn", detail, remedy)

    running = session.scalars(select(CampaignRow).where(CampaignRow.open.is_(True))).first()
    if running is not None and running.tries:
        detail = f"{running.tries} failed tries: {running.reason}"
        yield Check(f"campaign {running.number}", "warn", detail, f"fedforget-server campaign show {running.number}")


def _conduct(session: Session, now: datetime) -> Iterator[Check]:
    """Hospitals that refuse, veto or send what is not taken again and again."""
    names = set(session.scalars(select(SiteRow.name)))

    for name, site_conduct in sorted(conduct(session, now).items()):
        if name in names and site_conduct.repeated:
            detail = f"{site_conduct.repeated} in {LOOKED_AT.days} days"
            yield Check(
                f"conduct of {name}", "warn", detail, f"fedforget-server site show {name}; docs/how-to/incident.md"
            )


def _exports(session: Session) -> Iterator[Check]:
    """Exported copies of versions that nobody may use any more."""
    for version, count in to_recall(session).items():
        detail = f"{count} recipient{'s' if count > 1 else ''} of an export must be told to delete it"
        remedy = f"fedforget-server models show {version} names them; then models acknowledge {version} RECIPIENT"
        yield Check(f"copies of {version}", "warn", detail, remedy)


def _site(name: str, state: str, seen: datetime | None, version: str, now: datetime) -> Check:
    row = f"site {name}"
    if seen is None:
        return Check(row, "warn", "enrolled, never heard of", "has it joined, and is its `up` running?")
    if state != "active":
        return Check(row, "warn", state, f"fedforget-server site show {name}, then site readmit")
    if now - seen > _SILENT:
        return Check(row, "warn", f"silent since {seen:%Y-%m-%d %H:%M} UTC", "fedforget-site doctor there")
    return checks.versions(row, own_version(), version)
