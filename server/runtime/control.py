"""The coordinator's client of Flower's Control API. What is internal to Flower stays in this file.

The API asks for no credentials, so SuperLink listens on loopback only and the gateway does not carry it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    StreamLogsRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from common.errors import InputError, UnavailableError, WireError
from common.protocol.bundle import Bundle

Setting = bool | int | float | str


class RunStatus(NamedTuple):
    """`status` is pending, starting, running or finished; `sub_status` of the last completed, failed or stopped."""

    status: str
    sub_status: str
    details: str


@dataclass(frozen=True, slots=True)
class Node:
    """A registered SuperNode; `status` is registered, online, offline or unregistered."""

    node: int
    name: str
    status: str


class Control:
    """Starts and watches runs, and registers nodes, at the SuperLink at `address` under the CA in `ca` (PEM).

    Every method raises an `UnavailableError` when SuperLink does not answer and a `WireError` when it refuses.
    """

    def __init__(self, address: str, ca: bytes) -> None:
        self._client = ControlHttpClient.from_server_address(address, False, ca, [])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def start(
        self, bundle: Bundle, config: Mapping[str, bool | int | float | str], series: int | None
    ) -> tuple[int, int]:
        """Start a run, in a new series when `series` is None; answers the run and its series.

        Keys of `config` must be declared in the bundle.
        """
        request = StartRunRequest(
            fab=fab_to_proto(Fab(bundle.digest, bundle.content, {})),
            override_config=user_config_to_proto(dict(config)),
            series_id=series,
        )
        with _translated("start a run"):
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise WireError("SuperLink did not start the run: its log says why")
        return answer.run_id, answer.series_id

    def status(self, run: int) -> RunStatus:
        """How far a run is."""
        with _translated("look at a run"):
            runs = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
        if run not in runs:
            raise WireError(f"SuperLink does not know run {run}")
        nodes = runs[run].status

        return RunStatus(nodes.status, nodes.sub_status, nodes.details)

    def stop(self, run: int) -> bool:
        """Stop a run; False when it had ended. Handlers at the sites run to their end, their replies are dropped."""
        with _translated("stop a run"):
            try:
                return bool(self._client.StopRun(StopRunRequest(run_id=run)).success)
            except httpx.HTTPStatusError as err:
                reason = FlowerError.from_json(err.response.text)
                # The run may have ended between the look at it and this call.
                if reason is not None and reason.code == ApiErrorCode.RUN_ALREADY_FINISHED:
                    return False
                raise

    def logs(self, run: int) -> Iterator[str]:
        """What the ServerApp wrote, piece by piece; ends when the run does."""
        with _translated("read a run's log"):
            for piece in self._client.StreamLogs(StreamLogsRequest(run_id=run)):
                yield piece.log_output

    def nodes(self) -> list[Node]:
        """The registered SuperNodes."""
        with _translated("list the nodes"):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [Node(info.node_id, info.name, info.status) for info in nodes]

    def register_node(self, openssh_public_key: bytes, name: str) -> int:
        """Let the SuperNode with this key in; answers its node id (unsigned, 64 bit).

        Raises:
            InputError: not a public key on a NIST curve in OpenSSH's form.
        """
        key = _node_key(openssh_public_key)
        with _translated("register a node"):
            return int(self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=name)).node_id)

    def unregister_node(self, node: int) -> None:
        """Shut a SuperNode out at once and for good; its key cannot be registered again."""
        with _translated("unregister a node"):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))


def _node_key(openssh: bytes) -> bytes:
    try:
        key = load_ssh_public_key(openssh)
    except (ValueError, UnsupportedAlgorithm):
        key = None

    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InputError(
            "not a node key", remedy="give the OpenSSH public key of an EC key, as `fedforget-site` makes it"
        )

    return bytes(public_key_to_bytes(key))


@contextmanager
def _translated(act: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as err:
        reason = FlowerError.from_json(_text(err.response))
        failure_text = (
            f"{reason.message} (Flower's code {reason.code})" if reason else f"HTTP {err.response.status_code}"
        )
        # What is tried again must differ from what would be refused again.
        if err.response.is_server_error:
            raise UnavailableError(f"SuperLink could not {act}: {failure_text}") from err
        raise WireError(f"SuperLink refused to {act}: {failure_text}") from err
    except httpx.HTTPError as err:
        raise UnavailableError(f"cannot {act}: SuperLink does not answer ({type(err).__name__})") from err
    except ValueError as err:
        raise WireError(f"cannot {act}: SuperLink's answer does not fit ({err})") from err


def _text(response: httpx.Response) -> str | None:
    try:
        return response.text
    except httpx.StreamError:
        return None
