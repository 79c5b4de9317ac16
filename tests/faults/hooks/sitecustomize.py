"""Faults in processes of a real federation: Python runs this at the start of each that has this folder on its path.

`FEDFORGET_TEST_FAULTS` names a folder. A file in it named after a hospital, or `server`, holds `HOW:WHERE`; whichever
process comes to that place first takes the file away and fails in that way, once. Without a file nothing is different.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Self

    import uvicorn
    from flwr.app import RecordDict
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from client.membership.trust import Trust
    from common.protocol.instructions import Instruction
    from server.registry.manifest import Manifest

FAULTS = Path(os.environ.get("FEDFORGET_TEST_FAULTS", "/nowhere"))


def take(name: str, where: str, hows: set[str]) -> str | None:
    """How to fail here, None for not at all; the file is gone then."""
    path = FAULTS / name

    try:
        how, _, at = path.read_text().strip().partition(":")
        if at != where or how not in hows:
            return None
        path.rename(path.with_suffix(".struck"))
    except OSError:
        return None

    return how


def hospital(module: ModuleType) -> None:
    """`client.membership.trust`: the hospital's answer, before or after its own signature."""
    sign: Callable[[Trust, RecordDict, Instruction], RecordDict] = module.Trust.sign

    def faulty_sign(self: Trust, reply: RecordDict, instruction: Instruction) -> RecordDict:
        how = take(
            self.settings.name,
            instruction.context.kind,
            {"gone", "hang", "nan", "huge", "shapes", "examples", "forged", "weight"},
        )
        if how == "gone":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            time.sleep(3600)
        if how in {"nan", "huge", "shapes"}:
            reply = poisoned(reply, how)
        if how == "examples":
            reply = claiming(reply, num_examples=10**9)
        if how == "weight":
            reply = claiming(reply, retain_studies=10**9, train_studies=10**9)
        signed = sign(self, reply, instruction)

        return changed(signed) if how == "forged" else signed

    module.Trust.sign = faulty_sign


def poisoned(reply: RecordDict, how: str) -> RecordDict:
    import torch

    from common.protocol.array_bytes import to_record
    from common.protocol.array_groups import group
    from common.protocol.wire import weights_of

    state = weights_of(reply)
    name = next(n for n, tensor in state.items() if tensor.is_floating_point() and tensor.ndim > 1)

    if how == "nan":
        state[name] = torch.full_like(state[name], float("nan"))
    elif how == "shapes":
        state[name] = state[name].flatten()[:1].clone()
    else:
        state = {n: t * 50 if t.is_floating_point() else t for n, t in state.items()}

    reply["arrays"] = group(to_record(state.items()))

    return reply


def claiming(reply: RecordDict, **claims: int) -> RecordDict:
    import json

    body = reply.config_records["body"]
    body["json"] = json.dumps({**json.loads(str(body["json"])), **claims})

    return reply


def changed(reply: RecordDict) -> RecordDict:
    """One weight is another, under the signature that was made before."""
    from common.protocol.array_bytes import to_record
    from common.protocol.array_groups import group
    from common.protocol.wire import weights_of

    state = weights_of(reply)
    name = next(n for n, tensor in state.items() if tensor.is_floating_point())
    state[name] = state[name] + 1e-3
    reply["arrays"] = group(to_record(state.items()))

    return reply


def clock(module: ModuleType) -> None:
    """`client.app`: the hospital's clock is ten minutes behind for one message."""
    from datetime import datetime, tzinfo

    class Late(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            site = Path(os.environ.get("FEDFORGET_SITE", "/nowhere")).name
            moment = super().now(tz)
            return cls.fromtimestamp(moment.timestamp() - 600, tz) if take(site, "now", {"clock"}) else moment

    vars(module)["datetime"] = Late


def registry(module: ModuleType) -> None:
    """`server.registry.version_folder`: there is no room for a version."""
    write: Callable[..., Manifest] = module.write_version

    def write_version(*arguments: object, **named: object) -> Manifest:
        full = take("server", "publish", {"disk"})
        if full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

        try:
            return write(*arguments, **named)
        finally:
            if full:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    vars(module)["write_version"] = write_version


def gateway(module: ModuleType) -> None:
    """`uvicorn` under the gateway: what hospitals hand in reaches SuperLink twice, as after a lost acknowledgement."""
    begin: Callable[..., None] = module.Config.__init__

    def begin_twice(self: uvicorn.Config, app: Starlette, **options: object) -> None:
        forward = getattr(getattr(app, "router", None), "default", None)
        if forward is not None and type(forward).__name__ == "Gateway":
            app.router.default = twice(forward)
        begin(self, app, **options)

    module.Config.__init__ = begin_twice


def twice(forward: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("raw_path") != b"/v1/fleet/push-messages" or not take("server", "push", {"twice"}):
            await forward(scope, receive, send)
            return

        body = b""
        more = True

        while more:
            part = await receive()
            body = body + part.get("body", b"")
            more = part.get("more_body", False)

        def again() -> Receive:
            parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def once() -> Message:
                return parts.pop() if parts else {"type": "http.disconnect"}

            return once

        async def unheard(_: Message) -> None:
            """The first acknowledgement gets lost."""

        await forward(scope, again(), unheard)
        await forward(scope, again(), send)

    return answer


PLACES: dict[str, Callable[[ModuleType], None]] = {
    "client.membership.trust": hospital,
    "client.app": clock,
    "server.registry.version_folder": registry,
    "uvicorn": gateway,
}


class Wrapped(Loader):
    """A module's own loader, and then the change."""

    def __init__(self, loader: Loader, change: Callable[[ModuleType], None]) -> None:
        self.loader = loader
        self.change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.change(module)


class Finder(MetaPathFinder):
    """Finds the modules in `PLACES` where they always are."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in PLACES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Wrapped(spec.loader, PLACES[name])
        return spec


if FAULTS.is_dir():
    sys.meta_path.insert(0, Finder())
