import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from flwr.supercore.constant import SQLITE_PRAGMAS

from common.errors import FedForgetError
from common.platform.processes.flower import environment, executable
from server.runtime.superlink import flower_environment, superexec_argv, superlink_argv, with_longer_lock_wait
from server.settings import FOLDER_VARIABLE, ServerFolder, ServerSettings

FOLDER = ServerFolder(Path("/srv/fedforget"))
SETTINGS = ServerSettings(hosts=("h",))


def value(argv: Sequence[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_superlink_stays_on_loopback_with_tls_node_keys_and_a_secret() -> None:
    argv = superlink_argv(FOLDER, SETTINGS)
    assert value(argv, "--host") == "127.0.0.1"
    assert value(argv, "--port") == str(SETTINGS.ports.superlink)
    assert value(argv, "--ssl-certfile") == str(FOLDER.certificate)
    assert value(argv, "--isolation") == "process"
    assert value(argv, "--superexec-auth-secret-file") == str(FOLDER.superexec_secret)
    assert value(argv, "--database") == str(FOLDER.flower_database)
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= {*argv}
    assert not {"--insecure", "--simulation"} & {*argv, *superexec_argv(FOLDER, SETTINGS)}


def test_the_options_are_those_of_the_installed_flower(tmp_path: Path) -> None:
    """Flower parses them: of all, it does not know the one that is made up."""
    for argv in (superlink_argv(FOLDER, SETTINGS), superexec_argv(FOLDER, SETTINGS)):
        done = subprocess.run(
            [*argv, "--made-up"],
            env={**os.environ, **environment(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.strip().endswith("error: unrecognized arguments: --made-up")


def test_flower_calls_nobody_installs_nothing_and_finds_its_own_commands() -> None:
    env = flower_environment(FOLDER)
    assert env["FLWR_TELEMETRY_ENABLED"] == "0"
    assert env["FLWR_DISABLE_UPDATE_CHECK"] == env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert env[FOLDER_VARIABLE] == str(FOLDER.root)
    assert Path(env["PATH"].split(os.pathsep)[0]) == Path(sys.executable).parent == Path(executable("x")).parent


def test_only_the_lock_wait_is_changed() -> None:
    changed = dict(with_longer_lock_wait(SQLITE_PRAGMAS))
    assert changed == {**dict(SQLITE_PRAGMAS), "busy_timeout": "120000"}


def test_a_flower_with_another_lock_wait_is_not_patched() -> None:
    with pytest.raises(FedForgetError, match="needs flwr"):
        with_longer_lock_wait((("busy_timeout", "30000"),))
