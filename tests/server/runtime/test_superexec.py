"""ServerApps are forks of a process that has everything loaded, and their token shows nowhere."""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import pytest
from flwr.common.args import add_args_flwr_app_common
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor.types import ExecutionSpec

from server.runtime.superexec import ForkingExecutor, arguments_of

TOKEN = "a-token-that-nobody-sees"


class SpecFields(TypedDict, total=False):
    """The fields of a specification that a test may change."""

    insecure: bool
    root_certificates_path: str | None
    runtime_dependency_install: bool
    parent_pid: int | None


def spec(**changes: Unpack[SpecFields]) -> ExecutionSpec:
    usual = ExecutionSpec(
        task_type=TaskType.SERVER_APP,
        runtime_api_address="127.0.0.1:9",
        token=TOKEN,
        insecure=False,
        root_certificates_path="/ca.crt",
        runtime_dependency_install=False,
        parent_pid=7,
        suppress_output=True,
        task_id=1,
    )
    return replace(usual, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"insecure": True}, {"root_certificates_path": None}, {"runtime_dependency_install": True}], ids=str
)
def test_a_serverapp_is_told_what_flowers_executor_tells_it(
    changes: SpecFields, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **_: commands.append(argv))
    super(ForkingExecutor, ForkingExecutor()).launch(spec(**changes))
    (command,) = commands
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime-api-address")
    add_args_flwr_app_common(parser=parser)
    assert parser.parse_args(arguments_of(spec(**changes))) == parser.parse_args(command[1:])


def test_the_installed_flower_asks_for_its_executor_where_ours_is_put() -> None:
    assert "executor = get_executor(" in Path(run_superexec.__file__).read_text()


FORKS = """
import multiprocessing, time
from pathlib import Path
from server.runtime import serverapp
from server.runtime.superexec import ForkingExecutor
from tests.server.runtime.test_superexec import TOKEN, spec

if __name__ == "__main__":
    serverapp.prepare()
    ForkingExecutor().launch(spec(insecure=True, parent_pid=None))
    (process,) = multiprocessing.active_children()
    shown = Path(f"/proc/{process.pid}")
    while (shown / "comm").read_text().strip() != "flwr-serverapp":
        time.sleep(0.05)
    print(TOKEN.encode() in (shown / "cmdline").read_bytes(), flush=True)
    ForkingExecutor().close()
    process.join(30)
    print(process.is_alive())
"""


def test_a_token_does_not_show_among_the_arguments_of_a_process_and_the_process_ends_with_its_starter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
    assert not multiprocessing.active_children()
