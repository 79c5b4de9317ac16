"""The Flower ClientApp: one short handler per message, no logic, and no exception that gets out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.site import Site
from common.errors import FedForgetError, InputError, RefusedError, WireError
from common.wire import (
    ErrorReply,
    EvaluateRequest,
    TrainRequest,
    UnlearnRequest,
    pack,
    unpack,
    weights_of,
)

SITES_VARIABLE = "FEDFORGET_SITES"
"""Folder with `site-1`, `site-2`, ... for simulations; set where the client runs, never taken from a message."""

log = logging.getLogger("fedforget.client")
app = ClientApp()


@lru_cache(maxsize=1024)
def open_site(folder: str) -> Site:
    """The site in `folder`, opened once per process."""
    return Site(Path(folder))


def site_of(context: Context) -> Site:
    """The site this node serves: `site-dir` of its own node config, or its place in a simulation."""
    folder = context.node_config.get("site-dir")
    if folder is None:
        root = os.environ.get(SITES_VARIABLE)
        if not root:
            raise RefusedError(f"neither node config site-dir nor {SITES_VARIABLE} is set")
        folders = sorted(path.parent for path in Path(root).glob("*/site.json"))
        folder = str(folders[int(context.node_config["partition-id"])])
    return open_site(str(folder))


def _answer(message: Message, context: Context, handle: Callable[[Site, RecordDict], RecordDict]) -> Message:
    """Run a handler. What went wrong goes to the site's log; only a code leaves the hospital."""
    try:
        records = handle(site_of(context), message.content)
    except Exception as error:  # noqa: BLE001 - an exception's text would travel to the server
        log.error("%s failed: %s", message.metadata.message_type, _safe(error))
        records = pack(ErrorReply(code=_code(error)))
    return Message(records, reply_to=message)


def _code(error: Exception) -> Literal["bad-request", "no-data", "refused", "failed"]:
    match error:
        case WireError():
            return "bad-request"
        case RefusedError():
            return "refused"
        case InputError():
            return "no-data"
        case _:
            return "failed"


def _safe(error: Exception) -> str:
    """Our own messages hold nothing of a patient; of any other error only its type is logged."""
    return str(error) if isinstance(error, FedForgetError) else type(error).__name__


@app.query("status")
def status(message: Message, context: Context) -> Message:
    """Counts of patients and waiting revocations."""
    return _answer(message, context, lambda site, _: pack(site.status()))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Local training on all who have not revoked."""

    def handle(site: Site, records: RecordDict) -> RecordDict:
        model, reply = site.train(weights_of(records), unpack(records, TrainRequest))
        return pack(reply, model.state_dict())

    return _answer(message, context, handle)


@app.train("retain")
def retain(message: Message, context: Context) -> Message:
    """Retention fine-tuning: the same training, by a name that a site can allow or refuse by itself."""
    return train(message, context)


@app.train("unlearn")
def unlearn(message: Message, context: Context) -> Message:
    """Unlearning of the pending patients."""

    def handle(site: Site, records: RecordDict) -> RecordDict:
        model, reply = site.unlearn(weights_of(records), unpack(records, UnlearnRequest))
        return pack(reply, model.state_dict())

    return _answer(message, context, handle)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Selection figures, an audit, or the scores of a reference model."""
    return _answer(message, context, lambda site, r: pack(site.evaluate(weights_of(r), unpack(r, EvaluateRequest))))
