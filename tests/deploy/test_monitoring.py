"""Alert rules, dashboards and the scrape of a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, generate_latest

from client.account.reminders import LedgerCollector
from common.platform.keys.certificate_metrics import CertificateCollector
from common.platform.keys.certificates import certificate_pem, new_authority
from common.platform.processes.monitoring import monitor
from common.platform.processes.supervisor import Supervisor
from server.runtime import federation_metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "monitoring"
METRIC = re.compile(r"fedforget_\w+")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")


def expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    found = [rule["expr"] for group in rules for rule in group["rules"]]
    for board in (FOLDER / "dashboards").glob("*.json"):
        found += [target["expr"] for panel in json.loads(board.read_text())["panels"] for target in panel["targets"]]
    return found


def sources() -> str:
    modules = (federation_metrics, LedgerCollector, CertificateCollector, monitor)
    root = DEPLOY.parent
    files = {root / (getattr(m, "__module__", m.__name__).replace(".", "/") + ".py") for m in modules}
    return "".join(file.read_text() for file in files)


def test_rules_and_dashboards_ask_for_metrics_that_exist() -> None:
    exported = set(METRIC.findall(sources())) | {"fedforget_process_restarts_total"}
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(asked) > 10
    assert asked - exported == set()


def test_every_metric_is_in_a_rule_or_on_a_dashboard() -> None:
    exported = set(METRIC.findall(sources())) - {"fedforget_process_restarts"}
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    # Shown by `site list` and in the rule that a person is needed.
    assert exported - asked <= {"fedforget_site_failed_campaigns", "fedforget_campaign_started_seconds"}


@needs_promtool
def test_each_rule_fires_at_its_fault_and_none_at_a_healthy_federation() -> None:
    for command in (["check", "config", "prometheus.yaml"], ["test", "rules", "rules-test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_certificate_that_cannot_be_read_has_no_metric(tmp_path: Path) -> None:
    certificate = new_authority(ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC))
    (tmp_path / "ca.crt").write_bytes(certificate_pem(certificate))
    (tmp_path / "spoilt.crt").write_bytes(b"-----BEGIN")
    registry = CollectorRegistry()
    registry.register(CertificateCollector({name: tmp_path / f"{name}.crt" for name in ("ca", "spoilt", "gone")}))
    text = generate_latest(registry).decode()
    end = f"{certificate.not_valid_after_utc.timestamp()}"
    assert float(re.findall(r'_seconds\{certificate="ca"\} (\S+)', text)[0]) == float(end)
    assert "spoilt" not in text
    assert "gone" not in text


class Certificates:
    """A certificate that ends in `days` days."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def end_in(self, days: int) -> None:
        begun = datetime.now(UTC) - timedelta(days=10 * 365.25) + timedelta(days=days)
        self.path.write_bytes(certificate_pem(new_authority(ec.generate_private_key(ec.SECP256R1()), begun)))


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[tuple[str, Certificates]]:
    """A Prometheus that scrapes a real monitor every second by our rules."""
    certificates = Certificates(tmp_path / "site.crt")
    certificates.end_in(300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    supervisor = Supervisor((), log=Silent())
    with monitor(supervisor, 0, [CertificateCollector({"site": certificates.path})]) as target:
        config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / "rules.yaml")]
        config["scrape_configs"][1]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        del config["scrape_configs"][0]
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}"),
                *(f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}", certificates
        finally:
            process.terminate()
            process.wait(20)


class Silent:
    def output(self, process: str, text: str) -> None:
        pass

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        pass


def asked(address: str, path: str, holds: Any) -> Any:
    """The answer of Prometheus's API for which `holds` is true."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            answer = httpx.get(f"{address}/api/v1/{path}", trust_env=False).json()["data"]
            if holds(answer):
                return answer
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(0.2)
    raise AssertionError(path)


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_a_real_prometheus_scrapes_a_monitor_and_fires_only_when_a_certificate_ends(
    scraped: tuple[str, Certificates],
) -> None:
    address, certificates = scraped
    query = "query?query=fedforget_certificate_expires_seconds"
    asked(address, query, lambda data: data["result"])
    assert asked(address, "alerts", lambda data: "alerts" in data)["alerts"] == []
    certificates.end_in(15)
    (alert,) = asked(address, "alerts", lambda data: data["alerts"])["alerts"]
    assert alert["labels"]["alertname"] == "CertificateEnds"
    assert alert["annotations"]["summary"] == "Certificate site ends within 20 days."
