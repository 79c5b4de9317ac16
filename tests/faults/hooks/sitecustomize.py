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

FAULTS = Path(os.environ.get("FEDFORGET_TEST_FAULTS", "/nowhere"))


def take(name, where, hows):
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


def hospital(module):
    """`client.membership.trust`: the hospital's answer, before or after its own signature."""
    sign = module.Trust.sign

    def faulty_sign(self, reply, instruction):
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


def poisoned(reply, how):
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


def claiming(reply, **claims):
    import json

    body = dict(reply["body"])
    body["json"] = json.dumps({**json.loads(body["json"]), **claims})
    reply["body"] = type(reply["body"])(body)

    return reply


def changed(reply):
    """One weight is another, under the signature that was made before."""
    from common.protocol.array_bytes import to_record
    from common.protocol.array_groups import group
    from common.protocol.wire import weights_of

    state = weights_of(reply)
    name = next(n for n, tensor in state.items() if tensor.is_floating_point())
    state[name] = state[name] + 1e-3
    reply["arrays"] = group(to_record(state.items()))

    return reply


def clock(module):
    """`client.app`: the hospital's clock is ten minutes behind for one message."""
    real = module.datetime

    class Late(real):
        @classmethod
        def now(cls, tz=None):
            site = Path(os.environ.get("FEDFORGET_SITE", "/nowhere")).name
            moment = real.now(tz)
            return moment.fromtimestamp(moment.timestamp() - 600, tz) if take(site, "now", {"clock"}) else moment

    module.datetime = Late


def registry(module):
    """`server.registry.version_folder`: there is no room for a version."""
    write = module.write_version

    def write_version(*arguments, **named):
        full = take("server", "publish", {"disk"})
        if full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

        try:
            return write(*arguments, **named)
        finally:
            if full:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    module.write_version = write_version


def gateway(module):
    """`uvicorn` under the gateway: what hospitals hand in reaches SuperLink twice, as after a lost acknowledgement."""
    begin = module.Config.__init__

    def begin_twice(self, app, **options):
        forward = getattr(getattr(app, "router", None), "default", None)
        if type(forward).__name__ == "Gateway":
            app.router.default = twice(forward)
        begin(self, app, **options)

    module.Config.__init__ = begin_twice


def twice(forward):
    async def answer(scope, receive, send):
        if scope.get("raw_path") != b"/v1/fleet/push-messages" or not take("server", "push", {"twice"}):
            await forward(scope, receive, send)
            return

        body = b""
        more = True

        while more:
            part = await receive()
            body = body + part.get("body", b"")
            more = part.get("more_body", False)

        def again():
            parts = [{"type": "http.request", "body": body, "more_body": False}]

            async def once():
                return parts.pop() if parts else {"type": "http.disconnect"}

            return once

        async def unheard(_):
            """The first acknowledgement gets lost."""

        await forward(scope, again(), unheard)
        await forward(scope, again(), send)

    return answer


PLACES = {
    "client.membership.trust": hospital,
    "client.app": clock,
    "server.registry.version_folder": registry,
    "uvicorn": gateway,
}


class Wrapped(Loader):
    """A module's own loader, and then the change."""

    def __init__(self, loader, change):
        self.loader = loader
        self.change = change

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        self.change(module)


class Finder(MetaPathFinder):
    """Finds the modules in `PLACES` where they always are."""

    def find_spec(self, name, path=None, target=None):
        if name not in PLACES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = Wrapped(spec.loader, PLACES[name])
        return spec


if FAULTS.is_dir():
    sys.meta_path.insert(0, Finder())
