"""Runs all hospitals of a federation in one separate process, so that the server's process holds only the server."""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageBytes

from common.errors import UnavailableError
from simulations.run.local_grid import BareGrid, LocalGrid, identify

_REVOKE = b""
"""Sent instead of a message: the selected patients revoke now."""
_SECONDS = struct.Struct("<d")


@dataclass
class Traffic:
    """Traffic between the server and the hospitals since the last reset.

    Attributes:
        hospitals: core seconds of all hospitals.
        slowest: core seconds of the slowest hospital, by exchange.
        up: bytes of the messages to the server.
    """

    hospitals: float = 0.0
    slowest: dict[int, float] = field(default_factory=dict)
    up: int = 0
    down: int = 0
    messages: int = 0


class PipedGrid(BareGrid):
    """Sends each message only when its reply is read, so that replies do not fill the server's memory."""

    def __init__(self, pipe: Connection, hospitals: int, on_answer: Callable[[int], None]) -> None:
        super().__init__(range(1, hospitals + 1))
        self.traffic = Traffic()
        self._pipe = pipe
        self._on_answer = on_answer
        self._answers = 0
        self._waiting: dict[str, tuple[int, Message]] = {}
        self._exchange = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Store the messages; those of one call are one exchange."""
        self._exchange += 1
        ids = []
        for message in messages:
            ids.append(identify(message))
            self._waiting[ids[-1]] = (self._exchange, message)

        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let the hospitals answer."""
        return [self._answer(*self._waiting.pop(one)) for one in list(message_ids) if one in self._waiting]

    def _answer(self, exchange: int, message: Message) -> Message:
        request = message_to_proto(message).SerializeToString()
        try:
            self._pipe.send_bytes(request)
            (seconds,) = _SECONDS.unpack(self._pipe.recv_bytes())
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError):
            raise UnavailableError("the hospitals' process ended") from None

        now = self.traffic
        now.hospitals += seconds
        now.slowest[exchange] = max(seconds, now.slowest.get(exchange, 0.0))
        now.up, now.down, now.messages = now.up + len(answer), now.down + len(request), now.messages + 1
        self._answers += 1
        self._on_answer(self._answers)

        return message_from_proto(MessageBytes.FromString(answer))

    def revoke(self) -> None:
        """Let the patients revoke at their hospitals."""
        try:
            self._pipe.send_bytes(_REVOKE)
            self._pipe.recv_bytes()
        except (EOFError, OSError):
            raise UnavailableError("the hospitals' process ended") from None


@contextmanager
def hospitals(
    folders: Mapping[int, Path], forget: Mapping[int, tuple[str, ...]], on_answer: Callable[[int], None]
) -> Iterator[PipedGrid]:
    """A grid of the hospitals in `folders`, by node from 1 on; `forget` are those who will revoke at each."""
    # Spawned: a fork would begin with the memory of the server, which is what is measured.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, dict(folders), dict(forget)), daemon=True)
    process.start()
    # Only the hospitals may hold their end, or the server would wait for them after they died.
    theirs.close()

    try:
        yield PipedGrid(ours, len(folders), on_answer)
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, folders: dict[int, Path], forget: dict[int, tuple[str, ...]]) -> None:
    # Whoever is asked to stop is the server; these hospitals end when it does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch  # noqa: PLC0415 - the server's process imports this module, too

    from client.app import app  # noqa: PLC0415
    from client.cohort.site import Site  # noqa: PLC0415

    def revoke() -> None:
        for node, patients in forget.items():
            Site(folders[node]).revoke(patients)

    torch.set_num_threads(1)
    configs = {node: {"site-dir": str(folder.resolve())} for node, folder in folders.items()}
    answer(pipe, LocalGrid(app, configs), revoke)


def answer(pipe: Connection, grid: LocalGrid, revoke: Callable[[], None]) -> None:
    """Answer messages from a `PipedGrid` until it is closed; each reply comes with its core seconds."""
    with suppress(EOFError, OSError):
        while True:
            request = pipe.recv_bytes()
            if request == _REVOKE:
                revoke()
                pipe.send_bytes(_REVOKE)
                continue

            begin = time.process_time()
            message = message_from_proto(MessageBytes.FromString(request))
            (reply,) = grid.send_and_receive([message])
            answer = message_to_proto(reply).SerializeToString()
            pipe.send_bytes(_SECONDS.pack(time.process_time() - begin))
            pipe.send_bytes(answer)
