"""`fedforget-site doctor`: problems that occur in practice at a hospital, with remedies. Counts, never names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import grpc

from client.cohort.site_files import read_site
from client.database import opened, pending_migration
from client.evidence.attesting import exchange_checkpoints
from client.evidence.event_log import SiteLog
from client.membership.proxy import proxy_of, set_and_unused
from client.revocations.opening import open_ledger
from client.runtime.coordination import ask_status, connect
from client.runtime.doctor_ways_in import examine_ways_in, fhir_address
from client.runtime.notices import site_channels
from client.runtime.up import secrets_of
from client.settings import SiteFolder, SiteSettings, heartbeat
from common.errors import ConfigError, EvidenceError, FedForgetError, InputError, RefusedError, UnavailableError
from common.installation import own_version
from common.platform import checks
from common.platform.checks import GIB, Check
from common.platform.event_log.check import problems
from common.platform.keys.certificates import (
    SITE,
    certificate_fingerprint,
    check_issued,
    common_name,
    load_certificate,
    parse_fingerprint,
)
from common.platform.keys.private_keys import load_ec_key, load_signing_key
from common.platform.notices.checking import examine_notices
from common.platform.processes import probes
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.service import accepts
from common.platform.processes.up_lock import is_up, start_command
from common.platform.proxy import Proxy
from common.platform.sql import open_database
from common.platform.terminal.console import counted
from common.protocol.coordination import coordination_pb2 as messages

DISK = 10 * GIB
MEMORY = 4 * GIB
"""Disk for the image cache and one model version; memory for the SuperNode and a ClientApp that trains."""
_JOIN = "fedforget-site join BUNDLE"
_RENEWS = "it renews itself while `up` runs here and at the coordinator; else see logs/coordination.jsonl"
_ROTATE = "fedforget-site rotate, and send the request to the coordinator"


def examine(folder: SiteFolder, now: datetime, *, opens_keys: bool = True) -> list[Check]:
    """Run every check. An early failure explains the later ones.

    Args:
        opens_keys: False where the process cannot read the keys, as in the console; checks that need them are left out.
    """
    rows = [probes.writable(folder.root)]

    try:
        settings = folder.settings()
    except ConfigError as err:
        return [*rows, Check("site.toml", "fail", err.problem, err.remedy or "fix the file")]

    up_runs = is_up(folder.root)
    rows += [checks.ok("site.toml", "valid"), probes.software()]
    if opens_keys:
        rows += [*checks.secrets(secrets_of(folder)), _signing(folder), *_membership(folder, settings, now)]
    rows += _coordinator(folder, settings, now, opens_keys=opens_keys)
    for name, number in (("supernode", settings.ports.supernode), ("monitor", settings.ports.monitor)):
        rows.append(checks.port(name, number, taken=accepts(LOOPBACK, number)(), up_runs=up_runs))
    rows += examine_ways_in(folder, settings, now, up_runs=up_runs)
    rows += _notices(folder, settings, now, up_runs=up_runs, opens_keys=opens_keys)
    if not up_runs:
        rows.append(checks.up_runs(start_command("site", folder.root)))
    else:
        rows += probes.processes(settings.ports.monitor)
        beat = heartbeat(folder, settings)
        remedy = "see the rows above; if they are fine, ask whether the coordinator's `up` is running"
        rows.append(checks.beat(beat.name, beat.age(), beat.limit, remedy))

    rows += [*_database(folder, now), *_data(folder), *_revocations(folder)]

    return [*rows, probes.disk(folder.root, DISK), probes.memory(MEMORY), probes.gpu(settings.device)]


def _notices(
    folder: SiteFolder, settings: SiteSettings, now: datetime, *, up_runs: bool, opens_keys: bool
) -> Iterator[Check]:
    with suppress(ConfigError):  # the row about the proxy says it
        channels = site_channels(folder, settings)
        yield from examine_notices(channels, now, up_runs=up_runs, opens_secrets=opens_keys)


def _signing(folder: SiteFolder) -> Check:
    try:
        load_signing_key(folder.signing_key, folder.passphrase)
    except InputError as err:
        return Check("signing key", "fail", err.problem, err.remedy or "restore keys/ from the backup")

    return checks.ok("signing key", "opens")


def _membership(folder: SiteFolder, settings: SiteSettings, now: datetime) -> Iterator[Check]:
    """Check the join bundle's certificates against the fingerprint compared by telephone and the site's own key."""
    try:
        ca = load_certificate(folder.ca_certificate)
        certificate = load_certificate(folder.certificate)
    except InputError:
        yield Check("membership", "fail", "this site has not joined a federation", _JOIN)
        return

    if certificate_fingerprint(ca) != parse_fingerprint(settings.ca_fingerprint, "site.toml"):
        yield Check("membership", "fail", "federation/ca.crt does not match ca_fingerprint in site.toml", _JOIN)
        return

    try:
        check_issued(certificate, ca, SITE, now, "this site's certificate")
        ours = load_ec_key(folder.tls_key).public_key() == certificate.public_key()
    except (EvidenceError, InputError) as err:
        yield Check("membership", "fail", str(err), _ROTATE)
    else:
        if ours and common_name(certificate) == settings.name:
            yield checks.ok("membership", f"certificate for {settings.name}, issued by this federation")
        else:
            yield Check("membership", "fail", "the certificate is for a different key or name", _JOIN)

    # One that has expired opens no connection over which it could be renewed.
    remedy = _RENEWS if certificate.not_valid_after_utc > now else _ROTATE
    yield checks.validity("site certificate", certificate.not_valid_after_utc, now, remedy)
    yield checks.validity("authority", ca.not_valid_after_utc, now, "ask the coordinator", 365)


def _coordinator(folder: SiteFolder, settings: SiteSettings, now: datetime, *, opens_keys: bool) -> Iterator[Check]:
    try:
        proxy = proxy_of(settings)
    except ConfigError as err:
        yield Check("proxy", "fail", f"{err.where}: {err.problem}", err.remedy)
        return

    yield _proxy(proxy, settings)
    gateway = probes.service("gateway", settings.gateway, proxy)
    yield from gateway

    if not checks.failed(gateway):
        address = probes.split(settings.gateway)
        max_skew = settings.bounds.clock_skew_seconds
        yield from probes.tls(address, folder.ca_certificate, now, max_skew, proxy=proxy)

    coordination = probes.service("coordination", settings.coordination, proxy)
    yield from coordination
    # It calls with the site's key; without a connection it would repeat the failure above.
    if not checks.failed(coordination) and opens_keys:
        yield from _approval(folder)


def _proxy(proxy: Proxy | None, settings: SiteSettings) -> Check:
    """The proxy and what it serves, without its user and password."""
    if proxy is None and settings.proxy:
        return Check("proxy", "warn", 'proxy = "env", but HTTPS_PROXY is not set', "set it in the environment of `up`")
    if proxy is None:
        ignored_variables = set_and_unused(settings)
        if ignored_variables:
            remedy = 'set proxy = "http://HOST:PORT" or proxy = "env" in site.toml; ignore this if no proxy is needed'
            return Check(
                "proxy", "warn", f"{', '.join(ignored_variables)} set in this environment but not used", remedy
            )

        return checks.ok("proxy", "not configured")

    addresses = {"gateway": settings.gateway, "coordination": settings.coordination}
    if settings.fhir.enabled and settings.fhir.server:
        with contextlib.suppress(ConfigError):  # the FHIR rows report it
            addresses["FHIR server"] = fhir_address(settings.fhir)

    through = [name for name, address in addresses.items() if proxy.serves(*probes.split(address))]
    direct = [name for name in addresses if name not in through]
    parts = [f"for {', '.join(through)}"] if through else []
    parts += [f"not for {', '.join(direct)}"] if direct else []

    return checks.ok("proxy", f"{proxy} {', '.join(parts)}")


def _approval(folder: SiteFolder) -> Iterator[Check]:
    try:
        status = ask_status(folder)
    except RefusedError as err:
        yield Check("approval", "fail", str(err), "ask the coordinator: fedforget-server site show")
        return
    except (InputError, UnavailableError) as err:
        yield Check("approval", "fail", str(err), "see the rows above, then ask the coordinator to run its doctor")
        return

    if status.standing == messages.StatusReply.STANDING_ACTIVE:
        yield checks.ok("approval", "active")
    else:
        remedy = "ask the coordinator why; fedforget-server site readmit ends the suspension"
        yield Check("approval", "warn", "suspended: excluded from campaigns", remedy)

    yield checks.versions("version", own_version(), status.version)


def _database(folder: SiteFolder, now: datetime) -> Iterator[Check]:
    if not folder.has_database:
        yield Check("database", "fail", "site.db is missing", "restore it from its backup")
        return

    try:
        engine = open_database(folder.database_url)
    except InputError as err:
        yield Check("database", "fail", err.problem, err.remedy)
        return
    except UnavailableError:
        yield Check("database", "fail", "no answer", "check the owner of the file, or that PostgreSQL is running")
        return

    try:
        pending = pending_migration(engine)
        yield checks.schema(pending, "fedforget-site up migrates it")
        if pending is None:
            yield from _log(SiteLog(folder, engine, lambda: now))
    except InputError as err:
        yield Check("database", "fail", err.problem, err.remedy)
    finally:
        engine.dispose()


def _log(site: SiteLog) -> Iterator[Check]:
    try:
        owner = site.key().public
    except InputError:
        return

    with site.reading() as session:
        troubles = {peer.origin: peer.trouble for peer in site.log.peers(session) if peer.trouble}
        size = len(site.log.leaves(session))
        log_problems = problems(site.log, session, owner)

    yield from checks.log(size, log_problems, troubles, "fedforget-site log")
    yield from _log_there(site)


def _log_there(site: SiteLog) -> Iterator[Check]:
    """Check that the coordinator still accepts this log: a restored backup may have cut it short."""
    try:
        with connect(site.folder) as stub:
            exchange_checkpoints(site, stub)
    except EvidenceError as err:
        yield Check(
            "log of server", "fail", str(err), "see fedforget-site log show; call the coordinator before you continue"
        )
    except grpc.RpcError as err:
        if isinstance(err, grpc.Call) and err.code() is grpc.StatusCode.FAILED_PRECONDITION:
            remedy = (
                "after a restore, run fedforget-site log restart here and fedforget-server site restart-log there (see "
                "docs/how-to/deploy.md); otherwise call the coordinator before you continue"
            )
            yield Check("log at the coordinator", "fail", f"refused: {err.details()}", remedy)
    except FedForgetError:
        return  # reported by the rows about the coordinator
    else:
        yield checks.ok("log at the coordinator", "co-signed")


def _data(folder: SiteFolder) -> Iterator[Check]:
    try:
        site = read_site(folder.root)
    except FedForgetError:
        yield Check("data", "fail", "no readable cohort", "fedforget-site data import MANIFEST")
    else:
        images = {study.image for study in site.cohort.studies}
        there = sum(path.is_file() for path in images)
        detail = f"{len(site.cohort.patients)} patients, {len(site.studies)} studies, {there} of {len(images)} images"

        if there == len(images):
            yield checks.ok("data", detail)
        else:
            yield Check("data", "warn", detail, "mount the image archive again, or run fedforget-site data import")


def _revocations(folder: SiteFolder) -> Iterator[Check]:
    try:
        # `up` reconciles the ledger with the tombstones and migrates it. A doctor only reads: it changes nothing, and
        # keeps nobody from writing.
        with opened(folder.ledger_url) as engine:
            if pending_migration(engine) is not None:
                return  # the row of the database says it
        with open_ledger(folder, checked=True) as ledger:
            number = ledger.waiting().number
    except FedForgetError as err:
        remedy = (err.remedy if isinstance(err, InputError) else "") or "nothing is trained until this is fixed"
        yield Check("revocations", "fail", "cannot be read", remedy)
    else:
        waiting = counted(number, "patient is waiting", "patients are waiting") if number else "nobody is waiting"
        yield checks.ok("revocations", f"{waiting} to be unlearned")
