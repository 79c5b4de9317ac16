"""What `fedforget-server up` starts, and when it refuses to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from common.platform.processes.up_lock import is_up, only_one, only_one_of
from common.platform.sql import open_database, transaction
from server.cli import app
from server.database import CampaignRow, SiteRow
from server.runtime.federation_metrics import FederationCollector
from server.runtime.up import PROCESSES, children, chosen, monitor_of
from server.settings import ServerFolder

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refused(folder: ServerFolder) -> tuple[int, str]:
    run = CliRunner().invoke(app, ["up", "--dir", str(folder.root)])
    return run.exit_code, run.stderr


def test_children_get_whole_paths_and_an_environment_that_calls_nobody(
    coordinator: ServerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(coordinator.root.parent)
    started = children(ServerFolder(Path(coordinator.root.name)), coordinator.settings())
    assert [child.name for child in started] == ["superlink", "superexec", "gateway", "coordinator"]

    for child in started:
        assert any(word.startswith(str(coordinator.root)) for word in child.argv)
        assert not any(word.startswith(coordinator.root.name) for word in child.argv)
        assert child.env["FEDFORGET_SERVER"] == str(coordinator.root)
        assert child.env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert child.env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"

    assert sum(child.stop_grace for child in started) < 15


def test_no_gateway_is_started_where_another_program_serves_its_port(coordinator: ServerFolder) -> None:
    text = coordinator.settings_file.read_text().replace("[ports]\n", "[ports]\nown_gateway = false\n")
    coordinator.settings_file.write_text(text)
    started = [child.name for child in children(coordinator, coordinator.settings())]
    assert started == ["superlink", "superexec", "coordinator"]


def test_a_secret_that_others_can_read_stops_it(coordinator: ServerFolder) -> None:
    coordinator.superexec_secret.chmod(0o640)
    code, printed = refused(coordinator)
    assert code == 2
    assert f"chmod 600 {coordinator.superexec_secret}" in printed


def test_another_up_in_the_folder_stops_it(coordinator: ServerFolder) -> None:
    with only_one(coordinator.root):
        code, printed = refused(coordinator)
    assert code == 4
    assert "another `up` runs" in printed


def test_processes_of_their_own_share_the_folder_and_exclude_their_like(coordinator: ServerFolder) -> None:
    def refused_alone(process: str) -> tuple[int, str]:
        run = CliRunner().invoke(app, ["up", "--only", process, "--dir", str(coordinator.root)])
        return run.exit_code, run.stderr

    assert not is_up(coordinator.root)
    with only_one_of(coordinator.root, "gateway"), only_one_of(coordinator.root, "coordinator"):
        assert is_up(coordinator.root)
        assert refused(coordinator)[0] == 4
        code, printed = refused_alone("gateway")
        assert (code, "another `up --only gateway` runs" in printed) == (4, True)
    with only_one(coordinator.root):
        assert "without --only" in refused_alone("superlink")[1]
    assert not is_up(coordinator.root)

    code, printed = refused_alone("console")
    assert (code, "there are superlink, superexec, gateway, coordinator" in printed) == (2, True)


def test_each_process_of_its_own_has_a_monitor_of_its_own(coordinator: ServerFolder) -> None:
    settings = coordinator.settings()
    names = [child.name for child in children(coordinator, settings)]
    assert set(names) <= set(PROCESSES)
    assert chosen(coordinator, settings, "gateway").name == "gateway"
    ports = [monitor_of(settings, None), *(monitor_of(settings, name) for name in PROCESSES)]
    taken = {settings.console.port, settings.ports.gateway, settings.ports.coordination, settings.ports.superlink}
    assert len(set(ports)) == len(ports)
    assert not taken & set(ports)


@pytest.mark.integration
def test_one_process_alone_runs_until_sigterm(coordinator: ServerFolder) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        superlink, monitor = (one.getsockname()[1] for one in sockets)
    text = coordinator.settings_file.read_text()
    ports = f"[ports]\nsuperlink = {superlink}\nmonitor = {monitor - 1}\n"
    coordinator.settings_file.write_text(text.replace("[ports]\n", ports))
    program = "from common.entry import server; server()"
    command = [sys.executable, "-c", program, "up", "--only", "superlink", "--dir", str(coordinator.root), "--json"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        messages = (json.loads(line).get("message") for line in process.stdout)
        assert "ready: superlink" in messages
        assert is_up(coordinator.root)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 0


@pytest.mark.parametrize("name", ["gateway", "coordination", "superlink", "monitor"])
def test_a_port_that_is_taken_stops_it_once_and_before_anything_is_started(
    coordinator: ServerFolder, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = coordinator.settings_file.read_text()
        text = re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("[ports]\n", f"[ports]\n{name} = {port}\n")
        coordinator.settings_file.write_text(text)
        code, printed = refused(coordinator)

    assert code == 5
    assert re.search(rf"port {port} \({name}\) at \S+: another process listens there; \[ports\] {name}", printed)
    assert printed.count("error:") == 1
    assert not list(coordinator.logs.iterdir())


def test_metrics_name_sites_and_states_with_what_waits_there(coordinator: ServerFolder) -> None:
    engine = open_database(coordinator.database_url(coordinator.settings()))
    keys = {"node_key": "", "signing_key": "", "certificate": "", "enrolled": NOON}

    with transaction(engine) as session:
        session.add(SiteRow(name="north", state="active", pending=3, first_due=NOON, seen=NOON, **keys))
        session.add(SiteRow(name="south", state="suspended", **keys))
        session.add(CampaignRow(kind="training", state="published", created=NOON, changed=NOON, settings={}))

    registry = CollectorRegistry()
    registry.register(FederationCollector(engine))
    text = generate_latest(registry).decode()
    engine.dispose()
    assert 'fedforget_site_pending{site="north"} 3.0' in text
    assert f'fedforget_site_first_due_seconds{{site="north"}} {NOON.timestamp():.8g}' in text
    assert 'fedforget_site_active{site="south"} 0.0' in text
    assert 'fedforget_site_seen_seconds{site="south"}' not in text
    assert 'fedforget_campaigns{state="published"} 1.0' in text
    assert "fedforget_database_up 1.0" in text


def test_a_database_that_does_not_answer_is_a_metric(coordinator: ServerFolder) -> None:
    engine = open_database(coordinator.database_url(coordinator.settings()))
    engine.dispose()
    (coordinator.root / "server.db").unlink()
    (coordinator.root / "server.db").mkdir()
    registry = CollectorRegistry()
    registry.register(FederationCollector(engine))
    text = generate_latest(registry).decode()
    engine.dispose()
    assert "fedforget_database_up 0.0" in text
