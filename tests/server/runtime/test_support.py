"""The support bundle of a coordinator: hospitals are numbered, and neither they nor hosts and keys are named."""

from __future__ import annotations

import json
import socket
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from typer.testing import CliRunner

from common.platform.keys.certificate_metrics import CertificateCollector
from common.platform.processes.log_filter import keep_all
from common.platform.processes.process_log import ProcessLog
from common.platform.sql import open_database, transaction
from server.cli import app
from server.database import SiteRow
from server.membership.setup import create_server
from server.runtime.federation_metrics import FederationCollector
from server.settings import PolicyConfig, ServerFolder

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ServerFolder]:
    """Two hospitals, of which one has the name of an ordinary word."""
    create_server(tmp_path / "federation", ["fed.charite.example", "localhost"], NOW, ["glioma", "yes"])
    folder = ServerFolder(tmp_path / "federation")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = folder.settings_file.read_text().replace("[ports]\n", f"[ports]\nmonitor = {port}\n", 1)
    folder.settings_file.write_text(text)
    assert folder.settings().ports.monitor == port

    engine = open_database(folder.database_url(folder.settings()))
    with transaction(engine) as session:
        for name in ("hospital", "uke-hamburg"):
            row = SiteRow(name=name, state="active", node_key=name, signing_key=name, certificate="", enrolled=NOW)
            session.add(row)
    log = ProcessLog(folder.logs, keep_all, lambda _: None, lambda: NOW)
    log.output("coordinator", "uke-hamburg announced: 3 waiting, first due 2026-03-17")
    log.output("coordinator", 'File "/srv/charite/x.py", line 3, in anna')
    log.output("gateway", "ERROR postgresql+pg8000://anna:hunter2@10.1.2.3/db of Hospital")
    log.close()

    registry = CollectorRegistry()
    registry.register(FederationCollector(engine, PolicyConfig()))
    registry.register(CertificateCollector({"server": folder.certificate}))
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()
    engine.dispose()


def test_the_bundle_of_a_coordinator_names_no_hospital_no_host_and_no_key(folder: ServerFolder, tmp_path: Path) -> None:
    out = tmp_path / "support.zip"
    result = CliRunner().invoke(app, ["support-bundle", str(out), "--dir", str(folder.root)])
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "\n".join(texts.values())

    for word in ("uke", "hamburg", "charite", "glioma", "anna", "hunter2", "10.1.2.3", str(tmp_path), "2026-03-17"):
        assert word not in everything, word
    for path in [*folder.root.glob("pki/*"), *folder.root.glob("secrets/*")]:
        lines = [line for line in path.read_text().splitlines() if len(line) >= 16 and not line.startswith("-")]
        assert lines
        assert not any(line in everything for line in lines)

    log = json.loads(texts["logs/coordinator.jsonl"].splitlines()[0])
    assert log["message"].startswith("hospital-2 announced: 3 waiting, first due [withheld]")
    metrics = json.loads(texts["metrics.json"])
    assert {row["labels"].get("site") for row in metrics} >= {"hospital-1", "hospital-2"}
    assert any(row["metric"] == "fedforget_certificate_expires_seconds" for row in metrics)
