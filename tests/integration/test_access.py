"""Who may reach what, and which code runs at a hospital: real processes, and every kind of intruder."""

import json
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto import control_pb2 as control
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.membership.approval import approve
from client.runtime.supernode import REFUSAL
from common.platform.keys.certificates import certificate_pem, issue_site, read_certificate
from common.platform.keys.private_keys import load_ec_key, new_tls_key, read_passphrase
from common.protocol.bundle import Bundle, pack

from .conftest import Federation, Hospital

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prompt")]

OTHER_LOOPBACK = "127.0.0.2"
"""Where a server on every interface answers and one on 127.0.0.1 does not."""

MANIFEST = """\
[project]
name = "probe"
version = "1.0.0"
description = "Echoes."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "someone"

[tool.flwr.app.components]
serverapp = "probe_app.server:app"
clientapp = "probe_app.client:app"

[tool.flwr.app.config]
megabytes = 0
out = ""
"""

SERVER = """\
import json
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    array = np.random.default_rng(1).integers(0, 255, int(context.run_config["megabytes"]) * 2**20, dtype=np.uint8)
    content = RecordDict({"arrays": ArrayRecord({"a": Array(array)}), "config": ConfigRecord({"x": 1})})
    messages = [Message(content, dst_node_id=node, message_type="query") for node in grid.get_node_ids()]
    out = {}
    for reply in grid.send_and_receive(messages, timeout=60):
        if reply.has_error():
            out[reply.metadata.src_node_id] = {"code": reply.error.code, "reason": reply.error.reason}
        else:
            same = bool(np.array_equal(reply.content["arrays"]["a"].numpy(), array))
            out[reply.metadata.src_node_id] = {"same": same, **dict(reply.content["config"])}
    Path(context.run_config["out"]).write_text(json.dumps(out))
"""

CLIENT = """\
import os
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

Path(MARK).write_text("its code ran")
app = ClientApp()

@app.query()
def echo(message, context):
    arguments = Path("/proc/self/cmdline").read_bytes().decode().split("\\0")
    told = ConfigRecord({"arguments": arguments, "site": os.environ["FEDFORGET_SITE"]})
    return Message(RecordDict({"arrays": message.content["arrays"], "config": told}), reply_to=message)
"""


def probe_of(mark: Path | str) -> Bundle:
    """An app with code in its bundle; the hospital that imports it gets the file `mark`."""
    files = {"__init__": "", "client": f"MARK = {str(mark)!r}\n{CLIENT}", "server": SERVER}
    code = {f"probe_app/{name}.py": text.encode() for name, text in files.items()}
    return pack({"pyproject.toml": MANIFEST.encode(), **code})


@pytest.fixture(scope="module")
def north(federation: Federation) -> Hospital:
    """A hospital that is up."""
    hospital = federation.enrol("north")
    federation.start_supernode(hospital)
    federation.start_launcher(hospital)
    federation.wait_online(hospital)

    return hospital


def ask(federation: Federation, bundle: Bundle, out: Path, megabytes: int = 0) -> dict[int, dict[str, Any]]:
    """Run the probe app and tell what each hospital answered."""
    run, _ = federation.control.start(bundle, {"out": str(out), "megabytes": megabytes}, None)
    assert federation.finish(run) == "completed", "".join(federation.control.logs(run))
    return {int(node): answer for node, answer in json.loads(out.read_text()).items()}


def test_another_app_is_answered_with_an_error_and_none_of_its_code_runs_until_it_is_approved(
    federation: Federation, north: Hospital, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    out = tmp_path / "out.json"
    site = north.folder.settings_file
    bundle = probe_of(mark)

    assert ask(federation, bundle, out) == {north.node: {"code": 7, "reason": REFUSAL}}
    assert not mark.exists()
    assert f"decision=refused bundle={bundle.digest}" in federation.launcher_log(north)
    assert not list(north.folder.flower_home.rglob("probe_app"))

    approve(site, bundle.digest)
    answer = ask(federation, bundle, out, megabytes=12)[north.node]
    assert answer["same"], "an array of three pieces comes back whole through the gateway"
    assert mark.exists()
    assert answer["site"] == str(north.folder.root.resolve())
    assert "--token" not in answer["arguments"]
    assert not list(north.folder.flower_home.glob("task-*")), "what was unpacked is gone"


@pytest.fixture(scope="module")
def withdrawn(federation: Federation) -> Hospital:
    """A hospital whose approval was withdrawn before its SuperNode came up."""
    hospital = federation.enrol("south")
    federation.control.unregister_node(hospital.node)
    return hospital


@pytest.fixture(params=["stranger", "hospital", "withdrawn hospital"])
def intruder(
    request: pytest.FixtureRequest, federation: Federation, north: Hospital, withdrawn: Hospital, tmp_path: Path
) -> tuple[ssl.SSLContext, list[NodeAuthHttpInterceptor]]:
    """TLS and signatures of somebody who reaches the gateway: with no key, or with all that a hospital has."""
    trust = ssl.create_default_context(cafile=str(federation.folder.ca_certificate))
    if request.param == "stranger":
        return trust, []
    folder = (north if request.param == "hospital" else withdrawn).folder
    key = new_tls_key(tmp_path / "tls.key")
    pki = federation.folder
    ca = read_certificate(pki.ca_certificate.read_bytes(), "the CA")
    ca_key = load_ec_key(pki.ca_key, read_passphrase(pki.passphrase))
    certificate = issue_site(ca, ca_key, key.public_key(), folder.root.name, datetime.now(UTC))
    (tmp_path / "site.crt").write_bytes(certificate_pem(certificate))
    trust.load_cert_chain(tmp_path / "site.crt", tmp_path / "tls.key")
    node_key = load_ssh_private_key(folder.node_key.read_bytes(), None)
    assert isinstance(node_key, EllipticCurvePrivateKey)

    return trust, [NodeAuthHttpInterceptor(node_key, node_key.public_key())]


def test_nobody_reaches_more_than_the_fleet_routes(
    federation: Federation,
    intruder: tuple[ssl.SSLContext, list[NodeAuthHttpInterceptor]],
    north: Hospital,
    withdrawn: Hospital,
) -> None:
    trust, interceptors = intruder
    gateway = f"https://{federation.gateway}"
    bundle = probe_of("never")
    public_key = withdrawn.folder.node_key.with_name("node.pub").read_bytes()

    with (
        ControlHttpClient(gateway, interceptors=interceptors, verify=trust) as api,
        RuntimeHttpClient(gateway, interceptors=interceptors, verify=trust) as runtime,
        FleetHttpClient(gateway, interceptors=interceptors, verify=trust) as fleet,
        httpx.Client(base_url=gateway, verify=trust) as web,
    ):
        attempts: dict[str, Callable[[], object]] = {
            "list nodes": lambda: api.ListNodes(control.ListNodesRequest()),
            "list runs": lambda: api.ListRuns(control.ListRunsRequest()),
            "start a run": lambda: api.StartRun(control.StartRunRequest(fab=Fab(content=bundle.content))),
            "stop a run": lambda: api.StopRun(control.StopRunRequest(run_id=1)),
            "read logs": lambda: list(api.StreamLogs(control.StreamLogsRequest(run_id=1))),
            "register": lambda: api.RegisterNode(control.RegisterNodeRequest(public_key=public_key)),
            "shut out": lambda: api.UnregisterNode(control.UnregisterNodeRequest(node_id=north.node)),
            "take a server task": lambda: runtime.AcquireTask(
                AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
            ),
            "register as a node": lambda: fleet.RegisterNode(RegisterNodeFleetRequest(public_key=public_key)),
            "look around": lambda: web.get("/openapi.json").raise_for_status(),
            "ask for health": lambda: web.get("/health").raise_for_status(),
        }
        for what, attempt in attempts.items():
            with pytest.raises(httpx.HTTPStatusError) as refusal:
                attempt()
            assert (what, refusal.value.response.status_code, refusal.value.response.content) == (what, 403, b"")


def test_a_key_that_was_never_registered_is_refused_on_the_fleet_routes(federation: Federation) -> None:
    key, public = generate_key_pairs()
    trust = ssl.create_default_context(cafile=str(federation.folder.ca_certificate))
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30)

    for interceptors in ([], [NodeAuthHttpInterceptor(key, public)]):
        with (
            FleetHttpClient(f"https://{federation.gateway}", interceptors=interceptors, verify=trust) as fleet,
            pytest.raises(httpx.HTTPStatusError) as refusal,
        ):
            fleet.ActivateNode(request)

        assert 400 <= refusal.value.response.status_code < 500


def test_superlink_itself_would_answer_anybody_which_is_why_it_stays_on_loopback(
    federation: Federation, north: Hospital
) -> None:
    ca = federation.folder.ca_certificate.read_bytes()
    with ControlHttpClient.from_server_address(federation.superlink, False, ca, []) as anybody:
        assert north.node in {node.node_id for node in anybody.ListNodes(control.ListNodesRequest()).nodes_info}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OTHER_LOOPBACK, int(federation.superlink.split(":")[1])), 5)


def test_a_hospital_whose_approval_was_withdrawn_cannot_activate(federation: Federation, withdrawn: Hospital) -> None:
    supernode = federation.start_supernode(withdrawn)
    # The gateway answers 401, at which Flower's SuperNode ends by itself, with code 0; the supervisor says why.
    supernode.wait(60)
    assert {node.node: node.status for node in federation.control.nodes()}.get(withdrawn.node) != "online"


@pytest.mark.parametrize("secret", [None, b"guessed"], ids=["no secret", "another secret"])
def test_on_loopback_nobody_takes_a_task_without_the_secret(
    federation: Federation, north: Hospital, secret: bytes | None
) -> None:
    signed = frozenset({"/flwr.proto.Runtime/AcquireTask"})
    interceptors: list[RuntimeVersionHttpInterceptor | SuperExecAuthHttpInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperExec")
    ]
    if secret:
        interceptors.append(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=signed))
    ca = federation.folder.ca_certificate.read_bytes()
    supernode = f"127.0.0.1:{north.folder.settings().ports.supernode}"

    for address, trust in ((federation.superlink, ca), (supernode, None)):
        with (
            RuntimeHttpClient.from_server_address(address, trust is None, trust, interceptors) as client,
            pytest.raises(httpx.HTTPStatusError) as refusal,
        ):
            client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp", "flwr-clientapp"]))

        assert refusal.value.response.status_code == 401
