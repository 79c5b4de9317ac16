"""Two small wheels in an environment of their own: FedForget's, and another Flower app's with a `client/` too."""

import base64
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from common import installation

ROOT = Path(__file__).parents[2]
COMMAND = "def app():\n    print('started')\n"
OURS = {
    **{f"{package}/__init__.py": '"""Ours."""\n' for package in installation.PACKAGES},
    **{
        f"common/{name}.py": (ROOT / "common" / f"{name}.py").read_text()
        for name in ("entry", "errors", "installation", "printable")
    },
    "client/cli.py": COMMAND,
    "client/app.py": "from common.installation import check\ncheck()\nprint('our app')\n",
}
THEIRS = {"client/cli.py": "", "client/task.py": ""}


def wheel(folder: Path, name: str, files: Mapping[str, str], scripts: str = "") -> Path:
    info = f"{name}-1.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in content.items()]
    path = folder / f"{name}-1.0-py3-none-any.whl"

    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")

    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class Environment:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        self.python = folder / "venv" / "bin" / "python"
        self.ours = wheel(folder, "fedforget", OURS, "fedforget-site = common.entry:site")

    def pip(self, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "--quiet", "--python", str(self.python), *words]
        subprocess.run(command, check=True, cwd=self.folder, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})

    def install(self, path: Path) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-compile", str(path))

    def other(self, files: Mapping[str, str] = THEIRS) -> Path:
        return wheel(self.folder, "chestnet", files)

    def run(self, code: str = "") -> tuple[int, str]:
        words = [str(self.python), "-c", code] if code else [str(self.folder / "venv" / "bin" / "fedforget-site")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=self.folder)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def refused(environment: Environment, *texts: str) -> None:
    code, output = environment.run()
    assert code == 1
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    for text in (*texts, "pip install --force-reinstall --no-deps fedforget"):
        assert text in output


def test_a_whole_installation_starts(environment: Environment) -> None:
    environment.install(environment.ours)
    assert environment.run() == (0, "started\n")
    assert environment.run("import client.app") == (0, "our app\n")


def test_an_app_that_is_installed_later_is_named_and_its_removal_is_noticed(environment: Environment) -> None:
    environment.install(environment.ours)
    environment.install(environment.other())
    refused(environment, "client/cli.py is not FedForget's", "chestnet installs a file of that name")
    environment.pip("uninstall", "-y", "chestnet")
    refused(environment, "client/cli.py is missing", "another package overwrote or removed it")
    environment.pip("install", "--force-reinstall", "--no-deps", "--no-index", str(environment.ours))
    assert environment.run() == (0, "started\n")


def test_an_app_that_was_installed_before_is_named_before_its_removal_does_harm(environment: Environment) -> None:
    environment.install(environment.other())
    environment.install(environment.ours)
    refused(environment, "chestnet installs files into a package of FedForget")
    environment.pip("uninstall", "-y", "chestnet")
    refused(environment, "is missing")


def test_a_changed_file_and_one_from_elsewhere_are_refused(environment: Environment) -> None:
    environment.install(environment.ours)
    [site] = (environment.folder / "venv" / "lib").glob("*/site-packages")
    loaded = "import importlib.util as u, sys; s = u.spec_from_file_location('client.extra', 'extra.py')\n"
    (environment.folder / "extra.py").write_text("")
    _, output = environment.run(
        loaded + "sys.modules['client.extra'] = u.module_from_spec(s); from common.installation import check; check()"
    )
    assert "the module client.extra was not loaded from FedForget" in output
    (site / "client" / "cli.py").write_text(COMMAND + "# changed\n")
    refused(environment, "client/cli.py is not FedForget's")


def test_an_installation_without_a_record_is_refused(environment: Environment) -> None:
    environment.install(environment.ours)
    [record] = (environment.folder / "venv" / "lib").glob("*/site-packages/fedforget-1.0.dist-info/RECORD")
    record.unlink()
    refused(environment, "no RECORD")


def test_the_check_of_all_files_takes_milliseconds(tmp_path: Path) -> None:
    sources = [path for name in installation.PACKAGES for path in (ROOT / name).rglob("*.py")]
    record = tmp_path / "fedforget-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    rows = [f"{path.relative_to(ROOT)},sha256={_digest(path.read_text())},1" for path in sources]
    record.write_text("\n".join(rows))
    for package in installation.PACKAGES:
        (tmp_path / package).symlink_to(ROOT / package)
    started = time.process_time()
    installation._check_files(tmp_path, record, 1)
    assert time.process_time() - started < 0.2  # 15 ms on a quiet machine
