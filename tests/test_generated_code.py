"""The generated code of both gRPC services is what `make proto` makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from client.intake.grpc_api import consent_pb2
from common.protocol.coordination import coordination_pb2

ROOT = Path(__file__).parents[1]
PROTOS = {
    "common/protocol/coordination/coordination.proto": coordination_pb2,
    "client/intake/grpc_api/consent.proto": consent_pb2,
}


@pytest.mark.parametrize("proto", PROTOS)
@pytest.mark.parametrize("kind", ["_pb2.py", "_pb2.pyi", "_pb2_grpc.py"])
def test_the_code_in_the_tree_is_what_protoc_makes_of_the_proto(generated: Path, proto: str, kind: str) -> None:
    name = proto.replace(".proto", kind)
    assert (generated / name).read_text() == (ROOT / name).read_text()


@pytest.mark.parametrize(("proto", "module"), PROTOS.items())
def test_the_stub_by_hand_names_every_method_of_the_service(proto: str, module: ModuleType) -> None:
    stub = (ROOT / proto.replace(".proto", "_pb2_grpc.pyi")).read_text()
    (service,) = module.DESCRIPTOR.services_by_name.values()

    for method in service.methods:
        answer = f"Iterator[{method.output_type.name}]" if method.server_streaming else method.output_type.name
        assert f"{method.name}: _Call[{method.input_type.name}, {answer}]" in stub
        assert f"def {method.name}(" in stub


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make proto` writes, in another folder."""
    into = tmp_path_factory.mktemp("proto")
    recipe = (ROOT / "Makefile").read_text()
    assert f"PROTO := {' '.join(PROTOS)}" in recipe
    arguments = "-m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=."
    assert f"{arguments} $(PROTO)" in recipe
    command = arguments.replace("out=.", f"out={into}").split()
    subprocess.run([sys.executable, *command, *PROTOS], cwd=ROOT, check=True, timeout=60)

    return into
