"""The faults of `make soak` reach the places in the code that they name: these have moved before, unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOOKS = Path(__file__).parent / "hooks"
ASKED = """
import importlib, sitecustomize, uvicorn
for name in sitecustomize.PLACES:
    module = importlib.import_module(name)
    assert type(module.__spec__.loader) is sitecustomize.Wrapped, name

class Gateway:
    async def __call__(self, scope, receive, send): pass

from starlette.applications import Starlette
app = Starlette()
app.router.default = Gateway()
uvicorn.Config(app)
assert not isinstance(app.router.default, Gateway), "the gateway is not wrapped"
from server.registry.registry import write_version
assert write_version.__module__ == "sitecustomize", "the registry writes past the fault"
"""


def test_every_fault_finds_its_place_in_the_code(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HOOKS), "FEDFORGET_TEST_FAULTS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
