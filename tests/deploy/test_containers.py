"""The images and the compose file, read: there is no container engine in these tests."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.settings_sections import SitePortsConfig
from server.runtime.up import PROCESSES
from server.settings import PortsConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROLES = ("server", "site")
MONITOR = {"server": PortsConfig().monitor, "site": SitePortsConfig().monitor}
PINNED = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")
SECRET = re.compile(r"(?i)(password|passphrase|secret|token|api_?key)\w*\s*[=:]\s*(?!/run/secrets/)\S")


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments, continued lines joined, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = [line.strip().partition(" ") for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()]
    return [(name, rest) for name, _, rest in found]


def complaints(text: str, monitor: int) -> list[str]:
    """What is wrong with a Dockerfile."""
    found = []
    steps = instructions(text)
    of = {name: [rest for step, rest in steps if step == name] for name, _ in steps}
    args = dict(argument.partition("=")[::2] for argument in of.get("ARG", []))
    last = steps[max(i for i, (name, _) in enumerate(steps) if name == "FROM") :]

    for base in of["FROM"]:
        image = base.split()[0]
        image = args.get(image.strip("${}"), image)
        if not PINNED.fullmatch(image):
            found.append(f"not pinned: {image}")

    user = [rest for name, rest in last if name == "USER"]
    if not user or user[-1].split(":")[0] in {"root", "0"}:
        found.append("runs as root")
    if "ADD" in of:
        found.append("ADD takes addresses and unpacks archives: COPY")
    if SECRET.search(" ".join(rest for _, rest in steps)):
        found.append("a secret in a layer")
    for run in of.get("RUN", []):
        if "apt-get install" in run and not ("--no-install-recommends" in run and "rm -rf /var/lib/apt/lists" in run):
            found.append("apt leaves its lists, or takes what is only recommended")
        if "pip install" in run and "--no-cache-dir" not in run:
            found.append("pip leaves its cache")

    if f"127.0.0.1:{monitor}/health" not in " ".join(of.get("HEALTHCHECK", [])):
        found.append("no health check on the monitor")
    command = [rest for name, rest in last if name == "CMD"]
    if len(command) != 1 or not command[0].startswith("["):
        found.append("the shell, and not the program, would get SIGTERM")
    return found


def dockerfile(role: str) -> str:
    return (DEPLOY / f"Dockerfile.{role}").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_an_image_has_no_fault_that_the_checks_know(role: str) -> None:
    assert complaints(dockerfile(role), MONITOR[role]) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("debian:12.11-slim", "debian:latest"), "not pinned: debian:latest"),
        (("debian:12.11-slim", "debian"), "not pinned: debian"),
        (("USER 10001:0", "USER root"), "runs as root"),
        (("USER 10001:0\n", ""), "runs as root"),
        (("COPY --from=build", "ADD --from=build"), "ADD takes addresses and unpacks archives: COPY"),
        (("PYTHONDONTWRITEBYTECODE=1", "DB_PASSWORD=hunter2"), "a secret in a layer"),
        (("/wheelhouse/install /opt/fedforget server", "pip install /wheelhouse/server/*.whl"), "pip leaves its cache"),
        (("--no-install-recommends ", ""), "apt leaves its lists, or takes what is only recommended"),
        (("/health", "/"), "no health check on the monitor"),
        (('CMD ["fedforget-server"', 'CMD fedforget-server ["'), "the shell, and not the program, would get SIGTERM"),
    ],
)
def test_the_checks_see_each_fault(change: tuple[str, str], complaint: str) -> None:
    spoilt = dockerfile("server").replace(*change)
    assert spoilt != dockerfile("server")
    assert complaint in complaints(spoilt, MONITOR["server"])


@pytest.mark.parametrize("role", ROLES)
def test_an_image_runs_up_and_takes_nothing_but_the_wheels_of_its_role(role: str) -> None:
    steps = instructions(dockerfile(role))
    (command,) = [json.loads(rest) for name, rest in steps if name == "CMD"]
    assert command[:2] == [f"fedforget-{role}", "up"]
    assert [rest for name, rest in steps if name == "COPY" and not rest.startswith("--from")] == []
    assert f"/wheelhouse/install /opt/fedforget {role} " in dockerfile(role)


def quadlet(name: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[method-assign, assignment]
    parsed.read(DEPLOY / "quadlets" / name)
    return parsed


@pytest.mark.parametrize("role", ROLES)
def test_a_quadlet_runs_what_the_image_runs_as_confined_as_in_the_compose_file(role: str) -> None:
    container = quadlet(f"fedforget-{role}.container")["Container"]
    (command,) = [json.loads(rest) for name, rest in instructions(dockerfile(role)) if name == "CMD"]
    assert container["Exec"].split() == command
    assert (
        container["Image"] == f"localhost/{compose()['services']['server' if role == 'server' else 'north']['image']}"
    )
    confined = {"ReadOnly": "true", "DropCapability": "all", "NoNewPrivileges": "true", "User": "10001"}
    assert {name: container[name] for name in confined} == confined
    assert str(MONITOR[role]) in container["HealthCmd"]
    text = (DEPLOY / "quadlets" / f"fedforget-{role}.container").read_text(encoding="utf-8")
    ports = [int(p) for p in re.findall(r"^PublishPort=\d+:(\d+)$", text, re.MULTILINE)]
    assert ports == ([PortsConfig().gateway, PortsConfig().coordination] if role == "server" else [])
    for volume in re.findall(r"^Volume=(\S+\.volume):", text, re.MULTILINE):
        assert "VolumeName" in quadlet(volume)["Volume"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs Debian's package kubernetes-client")
@pytest.mark.parametrize(("room", "role"), [("coordinator", "server"), ("hospital", "site")])
def test_kustomize_builds_manifests_whose_pod_is_confined(room: str, role: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / "kubernetes" / room], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    parts = {part["kind"]: part for part in yaml.safe_load_all(done.stdout)}
    assert {"StatefulSet", "NetworkPolicy"} <= set(parts)
    assert ("Service" in parts) == (role == "server")
    pod = parts["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    (command,) = [json.loads(rest) for name, rest in instructions(dockerfile(role)) if name == "CMD"]
    assert container["args"] == command
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert PINNED.fullmatch(container["image"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert f"127.0.0.1:{MONITOR[role]}/health" in container[probe]["exec"]["command"][-1]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claimed = {claim["metadata"]["name"] for claim in parts["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed


def test_the_offline_build_takes_the_locked_version_of_pytorch() -> None:
    locked = re.findall(r"^torch==(\S+) ", (DEPLOY / "requirements" / "cuda.txt").read_text(), re.MULTILINE)
    script = (DEPLOY / "offline" / "build").read_text(encoding="utf-8")
    assert re.findall(r'^TORCH = "(.+)"$', script, re.MULTILINE) == locked


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return services


SPLIT = PROCESSES[:4]
"""What runs by default, one process a container."""


def one_alone(words: list[str], health: str) -> str:
    """The process that a container runs alone, which asks its own monitor."""
    process = words[3]
    assert words == ["fedforget-server", "up", "--only", process, "--dir", "/var/lib/fedforget/federation", "--json"]
    assert f"127.0.0.1:{PortsConfig().monitor + 1 + PROCESSES.index(process)}/health" in health

    return process


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs Debian's package kubernetes-client")
def test_kustomize_splits_the_coordinator_into_one_process_a_container() -> None:
    pods = []
    for room in ("coordinator", "coordinator-split"):
        command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / room)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (stateful,) = (part for part in yaml.safe_load_all(done.stdout) if part["kind"] == "StatefulSet")
        pods.append(stateful["spec"]["template"]["spec"])

    whole, split = pods
    (server,) = whole["containers"]
    containers = split["containers"]
    assert tuple(one_alone(one["args"], one["livenessProbe"]["exec"]["command"][-1]) for one in containers) == SPLIT
    for container in containers:
        same = ("image", "env", "securityContext", "volumeMounts")
        assert {key: container[key] for key in same} == {key: server[key] for key in same}
    assert [port for one in containers for port in one.get("ports", [])] == server["ports"]
    assert {**split, "containers": []} == {**whole, "containers": []}


def test_compose_splits_the_coordinator_into_one_process_a_container() -> None:
    whole = compose()["services"]["server"]
    services = compose("compose.split.yaml")["services"]
    assert tuple(one_alone(one["command"], one["healthcheck"]["test"][-1]) for one in services.values()) == SPLIT
    changed = services.pop("server")
    assert changed.keys() == {"command", "healthcheck"}
    for service in services.values():
        assert service["network_mode"] == "service:server"
        same = ("image", "read_only", "cap_drop", "security_opt", "restart", "volumes", "tmpfs")
        assert {key: service[key] for key in same} == {key: whole[key] for key in same}


def test_a_pod_of_quadlets_splits_the_coordinator_into_one_process_a_container() -> None:
    whole = quadlet("fedforget-server.container")["Container"]
    pod = (DEPLOY / "quadlets" / "split" / "fedforget-server.pod").read_text(encoding="utf-8")
    published = [int(port) for port in re.findall(r"^PublishPort=\d+:(\d+)$", pod, re.MULTILINE)]
    assert published == [PortsConfig().gateway, PortsConfig().coordination]
    files = {path.stem for path in (DEPLOY / "quadlets" / "split").glob("*.container")}
    assert files == {f"fedforget-{name}" for name in SPLIT}

    for name in SPLIT:
        container = quadlet(f"split/fedforget-{name}.container")["Container"]
        assert one_alone(container["Exec"].split(), container["HealthCmd"]) == name
        assert container["Pod"] == "fedforget-server.pod"
        same = ("Image", "Secret", "User", "ReadOnly", "DropCapability", "NoNewPrivileges", "Tmpfs", "Environment")
        assert {key: container[key] for key in same} == {key: whole[key] for key in same}


def test_only_the_gateway_and_the_coordination_service_are_published() -> None:
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    ports = PortsConfig()
    assert published == {"server": [f"{port}:{port}" for port in (ports.gateway, ports.coordination)]}


def test_only_the_coordinator_reaches_the_database() -> None:
    parsed = compose()
    on = {name: set(service["networks"]) for name, service in parsed["services"].items()}
    assert on == {
        "database": {"inside"},
        "server": {"inside", "hospitals"},
        "north": {"hospitals"},
        "south": {"hospitals"},
    }
    assert parsed["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", ["database", "server", "north", "south"])
def test_every_service_is_confined_pinned_and_started_again(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service)
    assert PINNED.fullmatch(service["image"])
    assert "/tmp:mode=1777" in service["tmpfs"]  # noqa: S108 - in the container


def test_the_compose_files_hold_no_secret_and_their_volumes_and_secrets_are_declared() -> None:
    parsed = compose()
    for service in parsed["services"].values():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("(?i)password|secret|token|key", variable) or variable.endswith("_FILE"), variable
            assert not variable.endswith("_FILE") or value.startswith("/run/secrets/")

    assert all(set(secret) == {"file"} for secret in parsed["secrets"].values())
    ignored = (DEPLOY / ".gitignore").read_text(encoding="utf-8").split()
    assert all(f"/{Path(secret['file']).parts[0]}/" in ignored for secret in parsed["secrets"].values())
    named = {
        volume.split(":")[0]
        for service in parsed["services"].values()
        for volume in service["volumes"]
        if not volume.startswith(("$", ".", "/"))
    }
    assert named == set(parsed["volumes"])
    used = {secret for service in parsed["services"].values() for secret in service.get("secrets", [])}
    assert used == set(parsed["secrets"])


def test_the_gpu_file_changes_a_service_that_is_there_to_an_image_that_the_script_builds() -> None:
    (name, service), *others = compose("compose.gpu.yaml")["services"].items()
    assert not others
    assert service["image"] == compose()["services"][name]["image"] + "-cuda"
    assert "-cuda" in (DEPLOY / "images" / "build").read_text(encoding="utf-8")


def has_compose() -> bool:
    try:
        return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
@pytest.mark.parametrize(
    "files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"], ["compose.yaml", "compose.split.yaml"]]
)
def test_docker_compose_accepts_the_files(files: list[str]) -> None:
    named = [part for name in files for part in ("-f", name)]
    command = ["docker", "compose", *named, "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DEPLOY, check=False)
    assert (done.returncode, done.stderr) == (0, "")
