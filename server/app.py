"""The Flower ServerApp for `flwr run .`: train together, and carry out a campaign if revocations wait."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel

from common.config import ExperimentConfig
from common.errors import RefusedError
from common.files import write_text
from common.model.checkpoint import ModelCard, save_checkpoint
from server.campaign import audit, run_campaign
from server.federation import Meter, connect
from server.training import Round, train

FOLDER_VARIABLE = "FEDFORGET_SERVER"
"""Folder with `server.json`; set where the server runs, never taken from a message."""

log = logging.getLogger("fedforget.server")
app = ServerApp()


class ServerFile(BaseModel):
    """`server.json`: what the coordinator runs."""

    experiment: ExperimentConfig
    card: ModelCard
    sites: int


@app.main()
def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - all settings lie in the server's own folder
    """Train until the validation loss stops falling; then, if revocations wait, forget, audit and decide."""
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        raise RefusedError(f"{FOLDER_VARIABLE} is not set: prepare a folder with `fedforget-sim prepare`")
    folder = Path(root)
    file = ServerFile.model_validate_json((folder / "server.json").read_bytes())
    config = file.experiment
    federation = connect(grid, file.sites)
    initial = file.card.build(config.seed).state_dict()
    trained = train(
        federation, initial, config.train, file.card, seed=config.seed, folder=folder / "train", on_round=_log_round
    )
    save_checkpoint(folder / "model" / "original", trained.state, file.card)
    if not any(status.pending for status in federation.status().values()):
        log.info("no revocation is pending")
        return
    federation.meter = Meter()
    before = audit(federation, trained.state, config.decision, config.seed)
    campaign = run_campaign(federation, trained.state, before, config, folder=folder, on_round=_log_round)
    save_checkpoint(folder / "model" / "unlearned", campaign.state, file.card)
    write_text(folder / "audit.json", campaign.figures.model_dump_json(indent=2))
    log.info("campaign %s: %s", campaign.decision.outcome, "; ".join(campaign.decision.reasons))


def _log_round(record: Round) -> None:
    loss = "" if record.validation_loss is None else f", validation loss {record.validation_loss:.3f}"
    log.info("%s round %d%s", record.phase, record.round, loss)
