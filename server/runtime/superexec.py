"""`flower-superexec` whose ServerApps are forked: see `server.runtime.serverapp`. Its arguments are that command's."""

from __future__ import annotations

import multiprocessing

from flwr.supercore.cli import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

from common.errors import FedForgetError
from server.runtime import serverapp


class ForkingExecutor(SubprocessExecutor):
    """Starts what Flower's executor starts; ServerApps as forks."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the process of a task."""
        if spec.task_type != TaskType.SERVER_APP:
            return super().launch(spec)

        serverapp.start(arguments_of(spec), silent=spec.suppress_output)
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Forget the processes that have ended."""
        multiprocessing.active_children()

    def close(self) -> None:
        """Ask those that run to end, as this process does."""
        for process in multiprocessing.active_children():
            process.terminate()


def arguments_of(spec: ExecutionSpec) -> list[str]:
    """What `flwr-serverapp` is told of its task."""
    arguments = ["--runtime-api-address", spec.runtime_api_address, "--token", spec.token]
    if spec.insecure:
        arguments += ["--insecure"]
    elif spec.root_certificates_path is not None:
        arguments += ["--root-certificates", spec.root_certificates_path]
    if spec.parent_pid is not None:
        arguments += ["--parent-pid", str(spec.parent_pid)]
    if spec.runtime_dependency_install:
        arguments += ["--allow-runtime-dependency-installation"]

    return arguments


def main() -> None:
    """Run `flower-superexec` with the arguments of this process."""
    loop = vars(run_superexec)
    if "get_executor" not in loop:
        raise FedForgetError("this Flower starts tasks in another way: FedForget needs flwr 1.41")
    loop["get_executor"] = lambda *_, **__: ForkingExecutor()

    serverapp.prepare()
    flower_superexec()


if __name__ == "__main__":
    main()
