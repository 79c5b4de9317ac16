"""`fedforget-server up`: SuperLink, the starter of ServerApps, the gateway and the coordinator, kept alive."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from common.errors import ConfigError
from common.platform.keys.certificate_metrics import CertificateCollector
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.log_filter import keep_all
from common.platform.processes.service import Port, accepts, keep_up, refuse_exposed, refuse_taken
from common.platform.processes.supervisor import Child
from common.platform.processes.up_lock import only_one
from common.platform.sql import open_database
from server.database import migrate
from server.runtime.federation_metrics import FederationCollector
from server.runtime.superlink import flower_environment, superexec_argv, superlink_argv
from server.settings import ServerFolder, ServerSettings


def children(folder: ServerFolder, settings: ServerSettings) -> tuple[Child, ...]:
    """The coordinator's processes, in the order in which they are started."""
    folder = ServerFolder(folder.root.resolve())  # a child may work in another folder than this process
    ports = settings.ports
    env = {**os.environ, **flower_environment(folder)}

    def own(module: str) -> tuple[str, ...]:
        return (sys.executable, "-P", "-m", module, "--dir", str(folder.root))

    processes: tuple[Child, ...] = (
        Child(
            "superlink",
            tuple(superlink_argv(folder, settings)),
            env,
            ready=accepts(LOOPBACK, ports.superlink),
            stop_grace=6.0,
        ),
        Child("superexec", tuple(superexec_argv(folder, settings)), env, stop_grace=2.0),
        Child(
            "gateway", own("server.runtime.gateway"), env, ready=accepts(ports.listen, ports.gateway), stop_grace=2.0
        ),
        Child(
            "coordinator",
            own("server.runtime.coordinator"),
            env,
            ready=accepts(ports.listen, ports.coordination),
            stop_grace=4.0,
        ),
    )

    console = settings.console
    if console.enabled:
        ready = accepts(console.host, console.port)
        processes = (*processes, Child("console", own("server.console"), env, ready=ready, stop_grace=4.0))

    if settings.notify.enabled:
        processes = (*processes, Child("notices", own("server.runtime.notices"), env, stop_grace=2.0))

    return tuple(child for child in processes if ports.own_gateway or child.name != "gateway")


def ports_of(settings: ServerSettings) -> tuple[Port, ...]:
    """Where the processes are going to listen."""
    ports = settings.ports
    programs = (
        ("superlink", LOOPBACK, ports.superlink),
        *((("gateway", ports.listen, ports.gateway),) if ports.own_gateway else ()),
        ("coordination", ports.listen, ports.coordination),
        ("monitor", LOOPBACK, ports.monitor),
    )
    listening = tuple(Port(name, host, number, f"[ports] {name} in server.toml") for name, host, number in programs)
    console = settings.console
    if console.enabled:
        listening = (*listening, Port("console", console.host, console.port, "[console] port in server.toml"))

    return listening


def secrets_of(folder: ServerFolder) -> tuple[Path, ...]:
    """Files that the processes need and nobody else may read; the passphrase may be a service manager's credential."""
    key_files = (folder.key, folder.signing_key, folder.superexec_secret)
    return (*key_files, *(path for path in (folder.ca_key, folder.passphrase) if path.exists()))


def up(folder: ServerFolder, *, as_json: bool) -> None:
    """Migrate the database and keep the coordinator's processes alive until SIGTERM.

    Raises:
        ConfigError: `server.toml` is missing or wrong.
        InputError: a secret is missing or readable by others, or the database is damaged.
        RefusedError: another `up` runs in the folder.
        UnavailableError: the database does not answer, or a port is taken.
    """
    settings = folder.settings()
    if settings.console.enabled and find_spec("authlib") is None:
        problem = "the console is enabled, but its parts are not installed"
        raise ConfigError(problem, where=str(folder.settings_file), remedy="pip install 'fedforget[console]'")
    refuse_exposed(secrets_of(folder))

    with only_one(folder.root):
        refuse_taken(ports_of(settings))
        engine = open_database(folder.database_url(settings))

        try:
            migrate(engine)
            keep_up(
                children(folder, settings),
                folder.logs,
                keep_all,
                settings.ports.monitor,
                [
                    FederationCollector(engine, settings.policy),
                    CertificateCollector({"authority": folder.ca_certificate, "server": folder.certificate}),
                ],
                [folder.tick],
                as_json=as_json,
            )
        finally:
            engine.dispose()
