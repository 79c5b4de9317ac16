"""`fedforget-site up`: run the SuperNode, the launcher and the coordination process, and restart those that fail."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from client.account.reminders import LedgerCollector
from client.membership.proxy import own_environment, proxy_of, supernode_environment
from client.revocations.opening import open_ledger
from client.revocations.tombstones.earlier_records import rename_members
from client.runtime.supernode import supernode_argv
from client.settings import FOLDER_VARIABLE, SiteFolder, SiteSettings, heartbeat
from common.errors import ConfigError, InputError
from common.platform import checks
from common.platform.keys.certificate_metrics import CertificateCollector
from common.platform.processes import probes
from common.platform.processes.flower import LOOPBACK, environment
from common.platform.processes.log_filter import withhold_unknown
from common.platform.processes.service import Port, accepts, keep_up, refuse_exposed, refuse_taken
from common.platform.processes.supervisor import Child
from common.platform.processes.up_lock import only_one
from common.platform.proxy import without_proxies

_ADMITTED = re.compile(r"SuperNode ID: \d+")
"""Printed once the coordinator's SuperLink has accepted the node's key; `/health` answers earlier."""


def children(folder: SiteFolder, settings: SiteSettings) -> tuple[Child, ...]:
    """The hospital's processes, in the order in which they start. None waits for the coordinator."""
    folder = SiteFolder(folder.root.resolve())  # children may have another working directory
    here = {FOLDER_VARIABLE: str(folder.root)}
    env = {**own_environment(settings, os.environ), **environment(folder.flower_home), **here}
    # Only the SuperNode takes its proxy from the environment; for the others `site.toml` decides.
    outward = {**without_proxies(env), **supernode_environment(proxy_of(settings), settings.gateway)}

    def own(module: str) -> tuple[str, ...]:
        # `-P`: no module in the working folder may take the place of ours.
        return (sys.executable, "-P", "-m", module, "--dir", str(folder.root))

    return (
        Child(
            "supernode",
            tuple(supernode_argv(folder, settings)),
            outward,
            ready_line=_ADMITTED,
            ready_within=0.0,
            stop_grace=7.0,
            explain=lambda: why_refused(folder, settings),
        ),
        Child("launcher", own("client.runtime.launcher"), without_proxies(env), stop_grace=4.0),
        Child("coordination", own("client.runtime.coordination"), env, stop_grace=3.0),
        *_ways_in(settings, own, env),
    )


def why_refused(folder: SiteFolder, settings: SiteSettings) -> str | None:
    """The doctor's findings about the connection to the coordinator: names, ports, certificate, clock.

    A SuperNode whose clock is off exits with 0 and does not mention the clock.
    """
    proxy = proxy_of(settings)
    rows = probes.service("gateway", settings.gateway, proxy)

    if not checks.failed(rows):
        address = probes.split(settings.gateway)
        max_skew = settings.bounds.clock_skew_seconds
        rows += probes.tls(address, folder.ca_certificate, datetime.now(UTC), max_skew, proxy=proxy)

    wrong = [check for check in rows if check.result != "ok"]

    return "; ".join(f"{check.name}: {check.detail} ({check.remedy})" for check in wrong) or None


def _ways_in(settings: SiteSettings, own: Callable[[str], tuple[str, ...]], env: Mapping[str, str]) -> Iterator[Child]:
    """Processes of the interfaces that the site has enabled."""
    if settings.fhir.enabled:
        ready = accepts(settings.fhir.host, settings.fhir.port)
        yield Child("fhir", own("client.intake.fhir"), env, ready=ready, stop_grace=4.0)

    service = settings.consent_service
    if service.enabled:
        ready = accepts(service.host, service.port)
        yield Child("consent-service", own("client.intake.grpc"), env, ready=ready, stop_grace=5.0)

    if settings.inbox.enabled:
        yield Child("inbox", own("client.intake.inbox"), env, stop_grace=2.0)

    if settings.notify.enabled:
        yield Child("notices", own("client.runtime.notices"), env, stop_grace=2.0)

    console = settings.console
    if console.enabled:
        ready = accepts(console.host, console.port)
        yield Child("console", own("client.console"), without_proxies(env), ready=ready, stop_grace=4.0)


def ports_of(settings: SiteSettings) -> tuple[Port, ...]:
    """Ports on which the processes will listen."""
    ports = settings.ports
    listening = [
        Port("supernode", LOOPBACK, ports.supernode, "[ports] supernode in site.toml"),
        Port("monitor", LOOPBACK, ports.monitor, "[ports] monitor in site.toml"),
    ]

    for name, table, config in (
        ("FHIR", "fhir", settings.fhir),
        ("consent service", "consent_service", settings.consent_service),
        ("console", "console", settings.console),
    ):
        if config.enabled:
            listening.append(Port(name, config.host, config.port, f"[{table}] port in site.toml"))

    return tuple(listening)


def secrets_of(folder: SiteFolder) -> tuple[Path, ...]:
    """Files that the processes need and nobody else may read. The service manager may provide the passphrase."""
    required_files = (folder.tls_key, folder.node_key, folder.signing_key, folder.supernode_secret)
    return (*required_files, *(path for path in (folder.passphrase, folder.pseudonym_secret) if path.exists()))


def up(folder: SiteFolder, *, as_json: bool) -> None:
    """Migrate the site's database, reconcile it with the tombstones, and run the hospital's processes until SIGTERM.

    Raises:
        ConfigError: `site.toml` is missing or wrong, or the console's parts are not installed.
        InputError: not joined, a secret is missing or readable by others, or the database or tombstones are damaged.
        RefusedError: another `up` runs in the folder.
        UnavailableError: a port is taken.
    """
    settings = folder.settings()
    # Before anything is started, and without loading it.
    if settings.console.enabled and find_spec("authlib") is None:
        problem = "the console is enabled, but its parts are not installed"
        raise ConfigError(problem, where=str(folder.settings_file), remedy="pip install 'fedforget[console]'")
    refuse_exposed(secrets_of(folder))
    membership_files = (folder.ca_certificate, folder.certificate, folder.coordinator_key)

    if not all(path.exists() for path in membership_files):
        raise InputError(
            "this site has not joined a federation", where=str(folder.root), remedy="fedforget-site join BUNDLE"
        )

    with only_one(folder.root), open_ledger(folder) as ledger:
        refuse_taken(ports_of(settings))
        # Earlier releases wrote identifiers into the record of participation.
        rename_members(ledger)
        keep_up(
            children(folder, settings),
            folder.logs,
            withhold_unknown,
            settings.ports.monitor,
            (
                LedgerCollector(ledger),
                CertificateCollector({"authority": folder.ca_certificate, "site": folder.certificate}),
            ),
            (heartbeat(folder, settings),),
            as_json=as_json,
        )
