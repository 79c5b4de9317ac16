"""What the documentation says about the program must be so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from client.settings import SiteSettings
from server.settings import ServerSettings
from simulations.run.settings import SimulationConfig, load_settings, preset_names

ROOT = Path(__file__).parents[2]


def settings_of(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found |= settings_of(type(default), f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = default

    return found


def test_the_reference_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w.]+)` \| `(.*)` \|$", page, flags=re.M))
    wanted = {name: repr(default) for name, default in settings_of(SimulationConfig).items()}
    rows = [f"| `{name}` | `{default}` |" for name, default in wanted.items() if listed.get(name) != default]
    assert rows == [], "rows that docs/reference/configuration.md lacks"
    assert listed.keys() - wanted.keys() == set(), "rows of settings that are gone"


@pytest.mark.parametrize(("title", "model"), [("site.toml", SiteSettings), ("server.toml", ServerSettings)])
def test_the_reference_lists_what_a_hospital_and_the_coordinator_can_set(title: str, model: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    section = page.split(f"## `{title}`")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \| .* \|$", section, flags=re.M))
    wanted = {name: _written(default) for name, default in settings_of(model).items() if "experiment" not in name}
    assert listed == wanted


def _written(default: object) -> str:
    return "must be set" if default is PydanticUndefined else f"`{default!r}`"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str) -> None:
    assert load_settings(name, [], {}).forget


def test_every_local_link_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "command", ["run", "prepare", "revoke", "report", "study", "shadows", "stream", "make-hospitals"]
)
def test_help_shows_an_example(command: str) -> None:
    code = "from simulations.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "Example" in done.stdout


def test_a_foreign_package_in_front_is_refused_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from common.installation import check; check()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert "another package named 'server'" in done.stderr


@pytest.mark.integration
def test_a_wheel_works_from_elsewhere_in_an_environment_of_its_own(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT))
    wheel = next((tmp_path / "dist").glob("fedforget-*.whl"))
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    own = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # The dependencies come from the environment that runs the tests, behind the wheel's own packages.
    import torch

    (own / "dependencies.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n")
    where = run(str(python), "-c", "import common; print(common.__file__)").strip()
    assert Path(where).is_relative_to(own)
    script = tmp_path / "venv" / "bin" / "fedforget-sim"
    assert "make-hospitals" in run(str(script), "--help")
    run(str(script), "make-hospitals", "made", "--sites", "2", "--patients", "10")
    assert (tmp_path / "made" / "manifest.csv").exists()


def test_the_flower_bundle_carries_code_and_no_stray_file() -> None:
    # In a process of its own: Flower's command line imports names that are deprecated elsewhere.
    code = (
        "import io, pathlib, zipfile; from flwr.cli.build import build_fab_from_disk;"
        "print(*zipfile.ZipFile(io.BytesIO(build_fab_from_disk(pathlib.Path('.')))).namelist(), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = done.stdout.split()
    others = {name for name in names if not re.fullmatch(r"(client|common|server)/[\w/]+\.py", name)}
    assert others == {"LICENSE", "pyproject.toml", "common/learning/data/wordpiece.json", ".info/CONTENT"}
    assert "client/app.py" in names
