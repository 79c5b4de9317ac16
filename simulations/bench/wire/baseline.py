"""Flower's own FedAvg, as its examples use it: the baseline of `simulations.bench.wire.bench`."""

from __future__ import annotations

from typing import cast

import torch  # noqa: F401 - Flower needs it loaded to make tensors of arrays
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from simulations.bench.wire.case import ROUNDS, SITES, case, finish, initial, seed_of, trained

server = ServerApp()
client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Receive and return all weights."""
    state = cast(ArrayRecord, message.content["arrays"]).to_torch_state_dict()
    after = trained(state, seed_of(context.node_id), frozenset())
    content = RecordDict({"arrays": ArrayRecord(after), "metrics": MetricRecord({"num-examples": 100})})

    return Message(content, reply_to=message)


@server.main()
def main(grid: Grid, _context: Context) -> None:
    """Run training rounds in float32, without evaluation."""
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=SITES, min_available_nodes=SITES)
    result = strategy.start(
        grid=grid, initial_arrays=ArrayRecord(initial(case().scale)), num_rounds=ROUNDS, timeout=3600.0
    )
    finish(result.arrays.to_torch_state_dict())
