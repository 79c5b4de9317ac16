import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.errors import InputError
from common.protocol.bundle import Bundle, bundle_of, installed_bundle, pack, parse_digest

LOAD = """
import sys
from pathlib import Path
from flwr.cli.install import install_from_fab
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.object_ref import load_app
content = Path(sys.argv[1]).read_bytes()
fab_id, version = get_fab_metadata(content)
folder = install_from_fab(content, skip_prompt=True)
load_app(sys.argv[2] + ":__name__", RuntimeError, folder)
print(fab_id, version, Path(sys.modules[sys.argv[2]].__file__).resolve())
"""


def test_the_digest_of_a_version_is_the_same_on_every_machine() -> None:
    assert bundle_of("0.1.0").digest == "9e0bb6ac35e9692bb66827a29c20c56f4acdc15d4b03856a08388ca2c8d5ec16"


def test_the_digest_is_sha256_of_the_bytes_and_differs_by_version() -> None:
    bundle = bundle_of("0.1.0")
    assert bundle.digest == hashlib.sha256(bundle.content).hexdigest()
    assert bundle.digest != bundle_of("0.1.1").digest


def test_the_bundle_holds_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(installed_bundle().content)) as archive:
        assert archive.namelist() == ["pyproject.toml", ".info/CONTENT"]


@pytest.mark.parametrize("package", ["client", "server"])
def test_flower_loads_the_installed_package_through_it(package: str, tmp_path: Path) -> None:
    path = tmp_path / "own.fab"
    path.write_bytes(installed_bundle().content)
    done = _load(path, f"{package}.settings", tmp_path)
    expected = os.path.realpath(sys.modules["common"].__path__[0] + f"/../{package}/settings.py")
    assert done.stdout.split()[-3:] == ["fedforget/fedforget", installed_version(), expected], done.stderr


def test_code_that_someone_adds_would_come_first_and_so_changes_the_digest(tmp_path: Path) -> None:
    manifest = zipfile.ZipFile(io.BytesIO(installed_bundle().content)).read("pyproject.toml")
    smuggled = pack({"pyproject.toml": manifest, "client/__init__.py": b"", "client/settings.py": b"app = 1\n"})
    path = tmp_path / "smuggled.fab"
    path.write_bytes(smuggled.content)
    done = _load(path, "client.settings", tmp_path)
    assert str(tmp_path) in done.stdout
    assert smuggled.digest != installed_bundle().digest


def test_flower_refuses_a_bundle_whose_bytes_are_not_those_of_its_digest() -> None:
    from flwr.supercore.fab import Fab
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supernode.nodestate import NodeStateFactory

    state = NodeStateFactory(objectstore_factory=ObjectStoreFactory()).state()
    good = installed_bundle()
    other = bundle_of("6.6.6")
    with pytest.raises(ValueError, match="mismatch"):
        state.store_fab(Fab(good.digest, other.content, {}))
    state.store_fab(Fab("", other.content, {}))
    assert state.get_fab(good.digest) is None
    stored = state.get_fab(other.digest)
    assert stored is not None
    assert stored.content == other.content


def test_two_packings_of_the_same_files_are_equal() -> None:
    files = {"a.py": b"1\n", "b.py": b"2\n"}
    assert pack(files) == pack(files) != Bundle(b"", "")


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "0" * 63, "0" * 65, "٠" * 64])
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a SHA-256"):
        parse_digest(text)


def test_a_digest_may_be_written_in_capitals_and_with_its_kind() -> None:
    assert parse_digest(f" sha256:{'AB' * 32}\n") == "ab" * 32


def installed_version() -> str:
    from importlib.metadata import version

    return version("fedforget")


def _load(fab: Path, module: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", LOAD, str(fab), module],
        env={**os.environ, "FLWR_HOME": str(home / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
