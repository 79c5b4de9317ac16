"""FedForget's rounds over the same weights: measured by `simulations.bench.wire.bench`."""

from __future__ import annotations

import time

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from client.cohort.received_weights import ReceivedWeights
from common.errors import UnavailableError
from common.learning.config import TrainConfig
from common.learning.model.frozen import frozen_names
from common.protocol.messages import TRAIN, TrainReply, TrainRequest
from common.protocol.wire import unpack
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from server.rounds.training import average_round
from simulations.bench.wire.case import ROUNDS, SITES, case, finish, initial, note, seed_of, shapes, trained

server = ServerApp()
client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Do the work of a site's handler in a folder of the node."""
    now = case()
    request = unpack(message.content, TrainRequest)
    bases = ReceivedWeights(note().parent / f"node-{context.node_id}", lambda: initial(now.scale), now.model)
    model = bases.receive(message.content)
    after = trained(model.state, seed_of(context.node_id), frozen_names(model.state, now.model))
    reply = TrainReply(site=str(context.node_id), loss=float(request.round), cost=0.0, seconds=0.0)

    return Message(bases.answer(reply, model, after), reply_to=message)


@server.main()
def main(grid: Grid, _context: Context) -> None:
    """Run the coordinator's training rounds."""
    now = case()
    while len(nodes := sorted(grid.get_node_ids())) < SITES:
        time.sleep(0.5)
    sites = {str(node): node for node in nodes}
    downlink = Downlink(now.precision, frozen_names(shapes(now.scale), now.model))
    federation = Federation(grid, sites, poll=1.0, downlink=downlink)
    state = federation.downlink.start(initial(now.scale))

    for number in range(ROUNDS):
        state, record = average_round(
            federation, TRAIN, state, dict.fromkeys(sites, 1 / SITES), TrainConfig(), epochs=1, number=number, seed=0
        )
        if record.missing:
            raise UnavailableError("a site did not answer, so the figures would be too low")

    finish(state)
