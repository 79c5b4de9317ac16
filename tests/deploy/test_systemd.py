"""The units as systemd reads them: it knows every setting, and finds little that they leave open."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.runtime.up import children as site_children
from client.settings import SiteFolder, SiteSettings
from server.runtime.up import children as server_children
from server.settings import ServerFolder, ServerSettings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/fedforget/bin"
ROLES = ("server", "site")
SECONDS_TO_SPARE = 20.0

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def settings_of(role: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / f"fedforget-{role}.service").read_text(encoding="utf-8").splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)

    return found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The units, for the programs of this environment: systemd looks whether they are there."""
    for role in ROLES:
        text = (UNITS / f"fedforget-{role}.service").read_text(encoding="utf-8")
        assert f"{INSTALLED}/fedforget-{role} up" in text
        (tmp_path / f"fedforget-{role}.service").write_text(text.replace(INSTALLED, str(Path(sys.executable).parent)))

    return tmp_path


@needs_systemd
@pytest.mark.parametrize("role", ROLES)
def test_systemd_knows_every_setting_and_has_nothing_to_say(here: Path, role: str) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(here / f"fedforget-{role}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("role", ROLES)
def test_systemd_finds_little_that_a_unit_leaves_open(here: Path, role: str) -> None:
    # The scale goes from 0 to 10; a service without any of this has 9.2. The threshold is in tenths.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    done = subprocess.run(
        [*command, str(here / f"fedforget-{role}.service")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("role", ROLES)
def test_a_unit_confines_its_service_and_keeps_it_alive(role: str) -> None:
    found = settings_of(role)
    wanted = {
        "User": f"fedforget-{role}",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "RestrictNamespaces": "yes",
        "SystemCallFilter": "@system-service",
        "UMask": "0077",
        "StateDirectory": f"fedforget-{role}",
        "StateDirectoryMode": "0700",
        "LoadCredential": f"passphrase:/etc/fedforget/{role}/passphrase",
        "Restart": "always",
        "RestartSec": "15",
        "StartLimitIntervalSec": "0",
        "OOMPolicy": "continue",
    }
    assert {name: found.get(name) for name in wanted} == {name: [value] for name, value in wanted.items()}
    assert set(found["RestrictAddressFamilies"][0].split()) <= {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"}


@pytest.mark.parametrize("role", ROLES)
def test_the_user_of_a_unit_is_made_by_its_sysusers_file(role: str) -> None:
    (line,) = (UNITS / f"fedforget-{role}.sysusers.conf").read_text(encoding="utf-8").splitlines()
    made = re.fullmatch(r'u (\S+) - ".+" (\S+)', line)
    assert made
    assert [made[1]] == settings_of(role)["User"]
    assert made[2] == f"/var/lib/{settings_of(role)['StateDirectory'][0]}"


def test_systemd_waits_longer_than_every_process_may_take_to_end() -> None:
    site = SiteSettings(name="north", gateway="localhost:1", coordination="localhost:2", ca_fingerprint="-")
    children = {
        "server": server_children(ServerFolder(Path("any")), ServerSettings(hosts=("localhost",))),
        "site": site_children(SiteFolder(Path("any")), site),
    }
    for role, started in children.items():
        longest = sum(child.stop_grace for child in started)
        assert float(settings_of(role)["TimeoutStopSec"][0]) >= longest + SECONDS_TO_SPARE
