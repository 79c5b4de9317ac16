"""Replies are fetched together where they are small, and one by one where they are large or nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from flwr.app import Message

from common.protocol.messages import TRAIN, StatusRequest
from common.protocol.wire import pack
from server.rounds.exchanges import exchange
from server.rounds.exchanges.exchange import Exchanges
from simulations.run.local_grid import LocalGrid

SITES = {f"site-{number:02}": number for number in range(1, 11)}


class CountingGrid(LocalGrid):
    def __init__(self) -> None:
        def answer(message: Message, _: Any) -> Message:
            return Message(pack(StatusRequest(), {"w": torch.ones(100)}), reply_to=message)

        super().__init__(answer, {number: {} for number in SITES.values()})  # type: ignore[arg-type]  # called, nothing else
        self.fetched: list[int] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = list(message_ids)
        self.fetched.append(len(asked))
        return super().pull_messages(asked)


def fetches(federation: Exchanges, grid: CountingGrid) -> list[int]:
    grid.fetched.clear()
    requests = {name: pack(StatusRequest()) for name in SITES}
    assert sorted(name for name, _ in federation.exchange(TRAIN, requests)) == sorted(SITES)
    return grid.fetched


def test_small_replies_are_fetched_together_once_their_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = CountingGrid()
    federation = Exchanges(grid, SITES)
    assert fetches(federation, grid) == [1] * 10
    assert fetches(federation, grid) == [10]
    monkeypatch.setattr(exchange, "MOST_FETCHED", 4)
    assert fetches(federation, grid) == [4, 4, 2]
    monkeypatch.setattr(exchange, "FETCHED", 1)
    assert fetches(federation, grid) == [1] * 10
