"""A grid on which one hospital fails once, at the first message of a kind, in a way that a real one could."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self
from unittest.mock import patch

import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from pydantic import create_model

import client.app
from client.cohort.site import Site
from common.protocol.array_bytes import to_record
from common.protocol.array_groups import group
from common.protocol.wire import weights_of
from simulations.run.local_grid import LocalGrid

VICTIM = 1
"""Node of the hospital in question: the first by name."""


class FaultyGrid(LocalGrid):
    """`how` strikes at `kind` and then no more; `struck` says that it did."""

    struck = False

    def __init__(self, app: Any, nodes: dict[int, dict[str, Any]], how: str, kind: str, victim: int = VICTIM) -> None:
        super().__init__(app, nodes)
        self.how = how
        self.kind = kind
        self.victim = victim
        self._twice: dict[str, Message] = {}

    def _handle(self, message: Message) -> Message:
        metadata = message.metadata
        if FaultyGrid.struck or metadata.message_type != self.kind or metadata.dst_node_id != self.victim:
            return super()._handle(message)
        FaultyGrid.struck = True
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        faults = {
            "gone": self._unavailable,
            "lost": self._lost,
            "forged": self._forged,
            "clock": self._ten_minutes_late,
            **dict.fromkeys(("nan", "huge", "shapes", "examples"), self._poisoned),
        }

        return faults.get(self.how, super()._handle)(message)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        strikes = not FaultyGrid.struck
        ids = list(super().push_messages(messages))

        if strikes and FaultyGrid.struck:
            at = next(i for i, m in enumerate(messages) if m.metadata.dst_node_id == self.victim)
            if self.how == "twice":
                self._twice[ids[at]] = self._replies[ids[at]]
            elif self.how == "hang":
                self._replies.pop(ids[at])

        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        message_ids = list(message_ids)
        again = [self._twice.pop(i) for i in message_ids if i in self._twice]
        return [*super().pull_messages(message_ids), *again]

    def _lost(self, message: Message) -> Message:
        super()._handle(message)
        return self._unavailable(message)

    def _forged(self, message: Message) -> Message:
        return _changed(super()._handle(message), message)

    @staticmethod
    def _unavailable(message: Message) -> Message:
        # What SuperLink answers for a node whose heartbeats ended.
        return Message(Error(code=5, reason="node unavailable"), reply_to=message)

    def _poisoned(self, message: Message) -> Message:
        """The hospital itself sends bad weights, with its own good signature."""
        names = ("train", "unlearn")
        originals = {name: getattr(Site, name) for name in names}

        def poisoned(original: Any) -> Any:
            def work(site: Site, *arguments: Any, **named: Any) -> Any:
                model, reply = original(site, *arguments, **named)
                with torch.no_grad():
                    if self.how == "nan":
                        next(model.parameters()).fill_(float("nan"))
                    elif self.how == "huge":
                        for parameter in model.parameters():
                            parameter.mul_(50.0)

                if self.how == "examples":
                    # A claim that plain FedAvg would weigh by.
                    kind = type(reply)
                    claims = create_model(kind.__name__, __base__=kind, num_examples=(int, 10**9))
                    reply = claims(**reply.model_dump())

                if self.how == "shapes":
                    name, tensor = next(iter(model.state_dict().items()))
                    state = {**model.state_dict(), name: tensor.flatten()[:1]}
                    model.state_dict = lambda *_, **__: state

                return model, reply

            return work

        for name, original in originals.items():
            setattr(Site, name, poisoned(original))
        try:
            return super()._handle(message)
        finally:
            for name, original in originals.items():
                setattr(Site, name, original)
            client.app.open_site.cache_clear()

    def _ten_minutes_late(self, message: Message) -> Message:
        class Late(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz or UTC) - timedelta(minutes=10)

        with patch.object(client.app, "datetime", Late):
            return super()._handle(message)


def _changed(reply: Message, message: Message) -> Message:
    """Somebody on the way changes one weight and keeps the signature."""
    records: dict[str, ArrayRecord | ConfigRecord | MetricRecord] = {}

    for name, record in reply.content.items():
        if isinstance(record, ArrayRecord):
            state = weights_of(reply.content)
            first = next(iter(state))
            state[first] = state[first] + 1e-3
            records[name] = group(to_record(state.items()))
        elif isinstance(record, ConfigRecord):
            records[name] = ConfigRecord(dict(record))

    return Message(RecordDict(records), reply_to=message)
