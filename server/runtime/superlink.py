"""How SuperLink and the starter of ServerApps are run: on loopback, with TLS, node keys and a secret for tasks.

`python -m server.runtime.superlink` is `flower-superlink` with a longer wait for SQLite's lock and no other change.
"""

from __future__ import annotations

import sys

from common.errors import FedForgetError
from common.platform.processes.flower import LOOPBACK, environment
from server.runtime.flower_database import SECURE_DELETE
from server.settings import FOLDER_VARIABLE, ServerFolder, ServerSettings

Pragmas = tuple[tuple[str, str], ...]

_FLOWER_LOCK_WAIT = ("busy_timeout", "5000")
_LOCK_WAIT = ("busy_timeout", "120000")
"""Milliseconds. With Flower's 5 s, replies of some 100 MB from a few sites at once end in `database is locked`,
which fails the run and leaves later ones pending for ever."""


def superlink_argv(folder: ServerFolder, settings: ServerSettings) -> list[str]:
    """The command that runs SuperLink; `https://127.0.0.1:PORT/health` answers 200 when it is ready."""
    return [
        *(sys.executable, "-P", "-m", "server.runtime.superlink"),
        *("--host", LOOPBACK, "--port", str(settings.ports.superlink)),
        *("--ssl-ca-certfile", str(folder.ca_certificate)),
        *("--ssl-certfile", str(folder.certificate), "--ssl-keyfile", str(folder.key)),
        "--enable-supernode-auth",
        *("--database", str(folder.flower_database)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.superexec_secret)),
        "--disable-runtime-dependency-installation",
    ]


def superexec_argv(folder: ServerFolder, settings: ServerSettings) -> list[str]:
    """The command that takes server tasks from SuperLink and starts a process for each."""
    return [
        *(sys.executable, "-P", "-m", "server.runtime.superexec"),
        *("--runtime-api-address", f"{LOOPBACK}:{settings.ports.superlink}"),
        *("--root-certificates", str(folder.ca_certificate)),
        *("--superexec-auth-secret-file", str(folder.superexec_secret)),
    ]


def flower_environment(folder: ServerFolder) -> dict[str, str]:
    """Variables of both processes; the ServerApp inherits them and finds the coordinator's folder by them."""
    return {
        **environment(folder.flower_database.parent),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        FOLDER_VARIABLE: str(folder.root.resolve()),
    }


def with_longer_lock_wait(pragmas: Pragmas) -> Pragmas:
    """Flower's SQLite settings with the longer wait.

    Raises:
        FedForgetError: they are not those that this was measured with.
    """
    if _FLOWER_LOCK_WAIT not in pragmas:
        raise FedForgetError("this Flower sets SQLite's lock wait in another way: FedForget needs flwr 1.41")
    return tuple(_LOCK_WAIT if pragma == _FLOWER_LOCK_WAIT else pragma for pragma in pragmas)


def main() -> None:
    """Run `flower-superlink` with the arguments of this process."""
    from flwr.supercore import constant  # noqa: PLC0415 - changed before the modules that copy it are imported

    pragmas = (*with_longer_lock_wait(constant.SQLITE_PRAGMAS), SECURE_DELETE)
    constant.SQLITE_PRAGMAS = pragmas  # type: ignore[assignment] # Flower's type counts the pairs
    from flwr.supercore import sql_mixin  # noqa: PLC0415 - as above
    from flwr.superlink.cli import flower_superlink  # noqa: PLC0415 - as above

    # Deleted pages would stay readable without anybody noticing.
    if vars(sql_mixin)["SQLITE_PRAGMAS"] is not pragmas:
        raise FedForgetError("Flower read its SQLite settings before they could be changed: FedForget needs flwr 1.41")
    flower_superlink()


if __name__ == "__main__":
    main()
