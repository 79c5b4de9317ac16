"""`fedforget-server up`: SuperLink, the starter of ServerApps, the gateway and the coordinator, kept alive."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from common.errors import ConfigError, InputError
from common.platform.keys.certificate_metrics import CertificateCollector
from common.platform.processes.flower import LOOPBACK
from common.platform.processes.log_filter import keep_all
from common.platform.processes.service import Port, accepts, keep_up, refuse_exposed, refuse_taken
from common.platform.processes.supervisor import Child
from common.platform.processes.up_lock import only_one, only_one_of
from common.platform.sql import open_database
from server.database import migrate
from server.runtime.federation_metrics import FederationCollector
from server.runtime.superlink import flower_environment, superexec_argv, superlink_argv
from server.settings import ServerFolder, ServerSettings

PROCESSES = ("superlink", "superexec", "gateway", "coordinator", "console", "notices")
"""Names of all processes; the monitor of `up --only` listens at `ports.monitor` and 1, 2, ... in this order."""
_LISTENS_AS = {"coordinator": "coordination"}


def children(folder: ServerFolder, settings: ServerSettings) -> tuple[Child, ...]:
    """The coordinator's processes, in the order in which they are started."""
    folder = ServerFolder(folder.root.resolve())  # a child may work in another folder than this process
    ports = settings.ports
    env = {**os.environ, **flower_environment(folder)}

    def certificate() -> bytes | None:
        # It may be replaced at this very moment, or lie on a share that is away: then nothing is said.
        try:
            return folder.certificate.read_bytes()
        except OSError:
            return None

    def own(module: str) -> tuple[str, ...]:
        return (sys.executable, "-P", "-m", module, "--dir", str(folder.root))

    def reached(name: str, number: int, stop_grace: float) -> Child:
        """A service of ours that hospitals reach, with the coordinator's certificate."""
        ready = accepts(ports.listen, number)
        return Child(name, own(f"server.runtime.{name}"), env, ready=ready, stop_grace=stop_grace, reads=certificate)

    processes: tuple[Child, ...] = (
        Child(
            "superlink",
            tuple(superlink_argv(folder, settings)),
            env,
            ready=accepts(LOOPBACK, ports.superlink),
            stop_grace=6.0,
            reads=certificate,
        ),
        Child("superexec", tuple(superexec_argv(folder, settings)), env, stop_grace=2.0),
        reached("gateway", ports.gateway, 2.0),
        reached("coordinator", ports.coordination, 4.0),
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


def chosen(folder: ServerFolder, settings: ServerSettings, only: str) -> Child:
    """The process that `--only` names.

    Raises:
        InputError: there is none of that name by the settings.
    """
    by_name = {child.name: child for child in children(folder, settings)}
    if only not in by_name:
        raise InputError("no such process", where="--only", remedy=f"by server.toml there are {', '.join(by_name)}")
    return by_name[only]


def monitor_of(settings: ServerSettings, only: str | None) -> int:
    """The port of health and metrics: processes of their own may share a network with the others."""
    return settings.ports.monitor + (0 if only is None else 1 + PROCESSES.index(only))


def secrets_of(folder: ServerFolder) -> tuple[Path, ...]:
    """Files that the processes need and nobody else may read; the passphrase may be a service manager's credential."""
    key_files = (folder.key, folder.signing_key, folder.superexec_secret)
    return (*key_files, *(path for path in (folder.ca_key, folder.passphrase) if path.exists()))


def up(folder: ServerFolder, *, only: str | None = None, as_json: bool) -> None:
    """Migrate the database and keep the coordinator's processes alive until SIGTERM.

    Args:
        only: the one process to run; the others run elsewhere, e.g. each in a container of one pod. The coordinator
            migrates the database.

    Raises:
        ConfigError: `server.toml` is missing or wrong.
        InputError: a secret is missing or readable by others, the database is damaged, or there is no process `only`.
        RefusedError: another `up` runs in the folder.
        UnavailableError: the database does not answer, or a port is taken.
    """
    settings = folder.settings()
    if settings.console.enabled and find_spec("authlib") is None:
        problem = "the console is enabled, but its parts are not installed"
        raise ConfigError(problem, where=str(folder.settings_file), remedy="pip install 'fedforget[console]'")
    processes = children(folder, settings) if only is None else (chosen(folder, settings, only),)
    # Before anything starts: a key that others can read may be copied already.
    refuse_exposed(secrets_of(folder))
    number = monitor_of(settings, only)

    if only is not None and only != "coordinator":
        with only_one_of(folder.root, only):
            refuse_taken(_ports_for(settings, only, number))
            keep_up(processes, folder.logs, keep_all, number, as_json=as_json)
        return

    with only_one(folder.root) if only is None else only_one_of(folder.root, only):
        refuse_taken(ports_of(settings) if only is None else _ports_for(settings, only, number))
        engine = open_database(folder.database_url(settings))

        try:
            # Within the lock: two processes must not migrate at the same time.
            migrate(engine)
            keep_up(
                processes,
                folder.logs,
                keep_all,
                number,
                [
                    FederationCollector(engine, settings.policy),
                    CertificateCollector({"authority": folder.ca_certificate, "server": folder.certificate}),
                ],
                [folder.tick],
                as_json=as_json,
            )
        finally:
            engine.dispose()


def _ports_for(settings: ServerSettings, only: str, monitor: int) -> tuple[Port, ...]:
    """Where one process is going to listen."""
    name = _LISTENS_AS.get(only, only)
    own = Port("monitor", LOOPBACK, monitor, f"[ports] monitor in server.toml, and {monitor - settings.ports.monitor}")
    return (*(port for port in ports_of(settings) if port.name == name), own)
