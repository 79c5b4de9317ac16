from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import common.coordination
from common.coordination import coordination_pb2, coordination_pb2_grpc

FOLDER = Path(common.coordination.__file__).parent
ROOT = FOLDER.parents[1]


@pytest.mark.parametrize("name", ["coordination_pb2.py", "coordination_pb2.pyi", "coordination_pb2_grpc.py"])
def test_the_code_in_the_tree_is_what_protoc_makes_of_the_proto(generated: Path, name: str) -> None:
    assert (generated / "common/coordination" / name).read_text() == (FOLDER / name).read_text()


def test_the_stub_by_hand_names_every_method_of_the_service() -> None:
    stub = Path(coordination_pb2_grpc.__file__).with_suffix(".pyi").read_text()
    for method in coordination_pb2.DESCRIPTOR.services_by_name["Coordination"].methods:
        client = f"{method.name}: _Call[{method.input_type.name}, {method.output_type.name}]"
        assert client in stub
        assert f"def {method.name}(" in stub


def test_no_message_from_a_site_has_a_field_for_free_text() -> None:
    strings = {
        f"{message.name}.{field.name}"
        for message in coordination_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if message.name.endswith("Request") and field.type in {field.TYPE_STRING, field.TYPE_BYTES}
    }
    signed = {"checkpoint", "proof", "cosigned"}
    assert strings == {
        "HeartbeatRequest.version",
        "HeartbeatRequest.held",
        "AcknowledgePurgeRequest.digests",
        *(f"ExchangeCheckpointRequest.{name}" for name in signed),
        "ExchangeAttestationsRequest.signed",
    }


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make proto` writes, in another folder."""
    into = tmp_path_factory.mktemp("proto")
    recipe = (ROOT / "Makefile").read_text()
    proto = "common/coordination/coordination.proto"
    assert f"PROTO := {proto}" in recipe
    arguments = "-m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=."
    assert f"{arguments} $(PROTO)" in recipe
    command = arguments.replace("out=.", f"out={into}").split()
    subprocess.run([sys.executable, *command, proto], cwd=ROOT, check=True, timeout=60)
    return into
