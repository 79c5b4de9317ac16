"""Start the hospital's SuperNode, and accept or refuse its tasks. Flower's internals stay in this module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from client.settings import SiteFolder, SiteSettings
from common.errors import UnavailableError
from common.platform.processes.flower import LOOPBACK, executable

REFUSAL = "the site has not approved this bundle"
"""The only text that the coordinator receives."""

_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})


def supernode_argv(folder: SiteFolder, settings: SiteSettings) -> list[str]:
    """The command that runs the SuperNode, with the node key and the federation's CA. Tasks need the secret."""
    return [
        *(sys.executable, "-P", "-m", "client.runtime.prompt_supernode"),
        *("--superlink", settings.gateway, "--root-certificates", str(folder.ca_certificate)),
        *("--auth-supernode-private-key", str(folder.node_key)),
        *("--host", LOOPBACK, "--port", str(settings.ports.supernode)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.supernode_secret)),
    ]


def clientapp_argv(address: str, token_file: str) -> list[str]:
    """The command that carries out one task. A token among its arguments would show in `ps`."""
    return [
        executable("flwr-clientapp"),
        *("--runtime-api-address", address, "--insecure"),
        *("--token-file", token_file),
    ]


@dataclass(frozen=True, slots=True)
class Task:
    """A message waiting for a ClientApp; `digest` is the SHA-256 of the bundle that it requires.

    The SuperNode keeps bundles by the digest that it computed over their bytes and hands out the one with this
    digest, so a coordinator cannot pass one bundle off as another.
    """

    number: int
    digest: str
    token: str = field(repr=False)


class Tasks:
    """The SuperNode's tasks, at `address` on loopback, for a holder of `secret`.

    Every method raises an `UnavailableError` when the SuperNode does not answer or refuses.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        self._client = self._connect(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def acquire(self) -> Task | None:
        """Take the oldest task, or None. The task is lost unless it is started or refused within a minute."""
        with _translated():
            answer = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
        if not answer.HasField("task") or not answer.token:
            return None
        return Task(answer.task.task_id, answer.task.fab_hash, answer.token)

    def refuse(self, task: Task) -> None:
        """Answer the task's message with `INVALID_FAB` at once.

        The content of the message is fetched and dropped: the SuperNode forgets a message only as a whole.
        """
        client = self._connect(RuntimeTokenHttpInterceptor(task.token))

        try:
            with _translated():
                message, context, _, _ = pull_task_input(client)
                reply = Message(Error(code=ErrorCode.INVALID_FAB, reason=REFUSAL), reply_to=message)
                push_message(client, reply, context)
                client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=REFUSAL))
        finally:
            client.close()

    def _connect(self, auth: ProtobufClientInterceptor) -> RuntimeHttpClient:
        version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
        return RuntimeHttpClient.from_server_address(self._address, True, None, [version, auth])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as err:
        status = err.response.status_code
        hint = ": it was started with another secret" if status == httpx.codes.UNAUTHORIZED else ""
        raise UnavailableError(f"the SuperNode answered HTTP {status}{hint}") from err
    except (httpx.HTTPError, ValueError) as err:
        raise UnavailableError(f"the SuperNode does not answer ({type(err).__name__})") from err
