"""The coordinator's client of the Control API against a real SuperLink."""

from pathlib import Path

import pytest

from common.errors import UnavailableError, WireError
from common.platform.keys.private_keys import new_node_key
from common.protocol.bundle import bundle_of, installed_bundle, pack

from .conftest import Federation

pytestmark = pytest.mark.integration

SERVER = b"""\
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    print("told", context.run_config["campaign"], context.run_config["attempt"], flush=True)
    if context.run_config["campaign"] == 13:
        raise RuntimeError("as asked")
"""
BUNDLE = pack(
    {
        "pyproject.toml": b"""\
[project]
name = "teller"
version = "1.0.0"
description = "d"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "someone"
[tool.flwr.app.components]
serverapp = "teller:app"
clientapp = "teller:app"
[tool.flwr.app.config]
campaign = 0
attempt = 0
""",
        "teller.py": SERVER,
    }
)


@pytest.fixture(autouse=True)
def all_run(federation: Federation) -> None:
    """Some tests here end a process of the coordinator; each begins with all of them."""
    federation.start_what_ended()


def public_key(folder: Path, name: str) -> bytes:
    new_node_key(folder / name)
    return (folder / f"{name}.pub").read_bytes()


def test_nodes_are_registered_once_and_shut_out_for_good(federation: Federation, tmp_path: Path) -> None:
    control = federation.control
    key = public_key(tmp_path, "north")
    node = control.register_node(key, "north")
    [found] = [one for one in control.nodes() if one.node == node]
    assert (found.name, found.status) == ("north", "registered")
    with pytest.raises(WireError, match="refused to register a node"):
        control.register_node(key, "north-again")
    control.unregister_node(node)
    assert "online" not in {one.status for one in control.nodes() if one.node == node}
    with pytest.raises(WireError, match="refused to unregister a node"):
        control.unregister_node(node)
    with pytest.raises(WireError, match="refused to register a node"):
        control.register_node(key, "north")
    assert control.register_node(public_key(tmp_path, "new"), "north") != node


def test_a_run_is_told_its_settings_and_its_end_is_seen(federation: Federation) -> None:
    run, series = federation.control.start(BUNDLE, {"campaign": 4, "attempt": 2}, None)
    assert federation.finish(run) == "completed"
    assert "told 4 2" in "".join(federation.control.logs(run))
    assert federation.control.stop(run) is False
    again, same = federation.control.start(BUNDLE, {"campaign": 13}, series)
    assert (again != run, same) == (True, series)
    assert federation.finish(again) == "failed"


def test_a_waiting_run_is_stopped(federation: Federation) -> None:
    federation.processes.stop("superexec")
    run, _ = federation.control.start(installed_bundle(), {}, None)
    assert federation.control.stop(run)
    status = federation.control.status(run)
    assert (status.status, status.sub_status) == ("finished", "stopped")


def test_what_superlink_does_not_know_is_refused(federation: Federation) -> None:
    control = federation.control
    for unknown in (lambda: control.status(1), lambda: control.stop(1), lambda: list(control.logs(1))):
        with pytest.raises(WireError):
            unknown()

    with pytest.raises(WireError, match="Flower's code"):
        control.start(bundle_of("1.0.0"), {"undeclared": 1}, None)


def test_a_superlink_that_ends_is_unavailable(federation: Federation) -> None:
    federation.processes.stop("superlink")
    with pytest.raises(UnavailableError):
        federation.control.nodes()
