"""The Flower ClientApp: one short handler per message, no logic, and no escaping exceptions.

A real site carries out only signed instructions and signs its answers. A simulated site has no keys.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.membership.trust import Trust
from client.runtime import clientapp
from client.settings import CONFIG_FILE, FOLDER_VARIABLE, SiteFolder
from common import installation
from common.errors import EvidenceError, FedForgetError, InputError, MissingBaseError, RefusedError, WireError
from common.platform.processes import structured_log
from common.protocol.instructions import Instruction
from common.protocol.messages import AdoptRequest, ErrorReply, EvaluateRequest, HeldNote, TrainRequest, UnlearnRequest
from common.protocol.rehearsals import RehearseRequest
from common.protocol.several_models import joined, parted
from common.protocol.wire import pack, unpack

if TYPE_CHECKING:
    from client.cohort.site import Site

SITES_VARIABLE = "FEDFORGET_SITES"
"""Folder with `site-1`, `site-2`, ... for simulations; set where the client runs, never taken from a message."""

Handler: TypeAlias = "Callable[[Site, RecordDict, int, str], RecordDict]"
"""Takes the site, a request, its campaign and its step; 0 and the kind of message in a simulation."""

log = logging.getLogger("fedforget.client")
if FOLDER_VARIABLE in os.environ:
    # A real site's log keeps only FedForget's lines, which it recognizes by their format.
    structured_log.configure()
installation.check()
app = ClientApp()


@lru_cache(maxsize=1024)
def open_site(folder: str) -> Site:
    """The site in `folder`, opened once per process."""
    # Imports torch, which takes a second. A deployment starts a process per message and refuses without torch.
    from client.cohort.site import Site  # noqa: PLC0415

    return Site(Path(folder))


def folder_of(context: Context) -> Path:
    """The folder of this node's site.

    `FEDFORGET_SITE` at a real site; otherwise `site-dir` of the node config, or the node's place in a simulation.
    """
    # First of all: at a real site neither a message nor a node config may name the folder.
    if real := os.environ.get(FOLDER_VARIABLE):
        return Path(real)
    if folder := context.node_config.get("site-dir"):
        return Path(str(folder))
    root = os.environ.get(SITES_VARIABLE)
    if not root:
        raise RefusedError(f"none of {FOLDER_VARIABLE}, node config site-dir and {SITES_VARIABLE} is set")
    folders = sorted(path.parent for path in Path(root).glob("*/site.json"))

    return folders[int(context.node_config["partition-id"])]


def trust_of(folder: Path) -> Trust | None:
    """The trust settings of the site in `folder`; None for a simulated site."""
    # A folder with `site.toml` always requires signatures (ADR 4): a variable that is missing must not turn them off.
    real = FOLDER_VARIABLE in os.environ or (folder / CONFIG_FILE).exists()
    return Trust.open(SiteFolder(folder)) if real else None


def _answer(message: Message, context: Context, handle: Handler) -> Message:
    """Verify, run a handler, sign. Errors go to the site's log; only a code leaves the hospital."""
    kind = message.metadata.message_type
    trust: Trust | None = None
    instruction: Instruction | None = None

    try:
        folder = folder_of(context)
        records = message.content

        # Verified before the site is opened: a message that nobody signed reaches no other code.
        if trust := trust_of(folder):
            instruction = trust.read(records)
            trust.admit(instruction, records, kind, datetime.now(UTC))
            clientapp.note_expiry(instruction.end)

        campaign, step = (instruction.context.campaign, instruction.context.step) if instruction else (0, kind)
        reply = handle(open_site(str(folder)), records, campaign, step)
    except Exception as error:  # noqa: BLE001 - an exception's text would travel to the server
        log.error("%s failed: %s", kind, _safe(error))
        reply = pack(ErrorReply(code=_code(error)))

    # Refusals are signed too, except for unsigned requests: there is nothing to bind an answer to.
    if trust is not None and instruction is not None:
        reply = trust.sign(reply, instruction)
    return Message(reply, reply_to=message)


def _code(error: Exception) -> Literal["bad-request", "no-data", "refused", "failed", "no-base"]:
    match error:
        case MissingBaseError():
            return "no-base"
        case WireError():
            return "bad-request"
        case RefusedError() | EvidenceError():
            return "refused"
        case InputError():
            return "no-data"
        case _:
            return "failed"


def _safe(error: Exception) -> str:
    """FedForget's own messages contain no patient data. Of other errors only the type is logged."""
    return str(error) if isinstance(error, FedForgetError) else type(error).__name__


@app.query("status")
def status(message: Message, context: Context) -> Message:
    """Counts of patients and waiting revocations."""
    return _answer(
        message, context, lambda site, *_: pack(site.status(), None, HeldNote(held=site.received_weights.held()))
    )


@app.query("adopt")
def adopt(message: Message, context: Context) -> Message:
    """Adopt a published version as the base, and close its campaign."""

    def handle(site: Site, records: RecordDict, _campaign: int, _step: str) -> RecordDict:
        request = unpack(records, AdoptRequest)
        # Not among the working weights: `adopt` holds the version itself.
        weights = site.received_weights.receive(records, keep=False)
        return site.received_weights.answer(site.adopt(weights.state, request), weights)

    return _answer(message, context, handle)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train locally on all patients who have not revoked."""

    def handle(site: Site, records: RecordDict, campaign: int, step: str) -> RecordDict:
        request = unpack(records, TrainRequest)
        if request.folds is not None:
            fold_weights = site.received_weights.receive(records, models=request.folds.keys)
            after, reply = site.train_folds(fold_weights.state, request, campaign=campaign, step=step)
            return site.received_weights.answer(reply, fold_weights, after, keep=False)

        weights = site.received_weights.receive(records)
        model, reply = site.train(weights.state, request, campaign=campaign, step=step)
        return site.received_weights.answer(reply, weights, model.state_dict())

    return _answer(message, context, handle)


@app.train("retain")
def retain(message: Message, context: Context) -> Message:
    """Retention fine-tuning: the same training, under a name that a site can allow or refuse separately."""
    return train(message, context)


@app.train("unlearn")
def unlearn(message: Message, context: Context) -> Message:
    """Unlearn the pending patients."""

    def handle(site: Site, records: RecordDict, campaign: int, step: str) -> RecordDict:
        request = unpack(records, UnlearnRequest)
        weights = site.received_weights.receive(records)
        precision = weights.note.precision if weights.note else "fp32"
        model, reply = site.unlearn(weights.state, request, campaign=campaign, step=step, precision=precision)
        # Before the answer is packed, which replaces the rounding errors that this reads.
        if reply.cohort:
            site.sent(campaign, site.received_weights.as_sent(weights, model.state_dict()))
        return site.received_weights.answer(reply, weights, model.state_dict())

    return _answer(message, context, handle)


@app.train("rehearse")
def rehearse(message: Message, context: Context) -> Message:
    """One step of a wave of rehearsals: candidates that are scored and thrown away."""

    def handle(site: Site, records: RecordDict, _campaign: int, _step: str) -> RecordDict:
        request = unpack(records, RehearseRequest)
        if request.step == "close":
            return pack(site.rehearse(None, request)[1])
        weights = site.received_weights.receive(records, models=request.keys if request.candidates else ())
        after, reply = site.rehearse(weights.state, request)
        if request.step == "score":
            return site.received_weights.answer(reply, weights)

        # The candidates of an unlearning are changes to the one model that was received.
        before = parted(weights.state, request.keys) if request.candidates else {}
        keys = dict.fromkeys(name.partition("/")[0] for name in after)
        base = joined({key: before.get(key, weights.state) for key in keys})
        return site.received_weights.answer(reply, replace(weights, state=base), after, keep=False)

    return _answer(message, context, handle)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Compute selection figures or an audit, or keep the scores by fold models."""

    def handle(site: Site, records: RecordDict, campaign: int, step: str) -> RecordDict:
        request = unpack(records, EvaluateRequest)
        weights = site.received_weights.receive(records, models=request.folds.keys if request.folds else ())
        return site.received_weights.answer(
            site.evaluate(weights.state, request, campaign=campaign, step=step), weights
        )

    return _answer(message, context, handle)
