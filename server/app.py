"""The Flower ServerApp: one run of an open campaign, or the main job on a simulated federation for `flwr run .`."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel
from sqlalchemy import select

from common import installation
from common.errors import RefusedError, UnavailableError
from common.evidence.outcomes.grounds_text import outcome_text
from common.files import write_text
from common.learning.config import ExperimentConfig
from common.learning.model.checkpoint import ModelCard, save_checkpoint
from common.platform.processes import structured_log
from common.platform.sql import transaction
from server.campaign.campaign import run_campaign
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.qualification import deployed as qualification
from server.campaign.running.lifecycle import CampaignRunner
from server.campaign.running.training import log_round
from server.campaign.running.tries import put_off
from server.database import EventRow
from server.membership.registration import in_force, largest
from server.registry.quarantine import Quarantine
from server.rounds.checks.update_gate import UpdateGate, check_aggregate, least_step
from server.rounds.exchanges.connecting import connect, connect_registered
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.holding import Holding
from server.rounds.exchanges.meter import Meter
from server.rounds.exchanges.progress import ProgressFile
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import train
from server.settings import FOLDER_VARIABLE, SERVER_FILE, Terms

log = logging.getLogger("fedforget.server")
HELD_UP = "held-up"
"""Kind of the event of a site that used up its time in a campaign."""
app = ServerApp()


class SimulatedServer(BaseModel):
    """`server.json`, which `fedforget-sim prepare` writes."""

    experiment: ExperimentConfig
    card: ModelCard
    sites: int


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry on the campaign that the run was started for; all else lies in the coordinator's own folder."""
    installation.check()
    root = os.environ.get(FOLDER_VARIABLE)

    if not root:
        raise RefusedError(
            f"{FOLDER_VARIABLE} is not set: `fedforget-server up` sets it, or see `fedforget-sim prepare`"
        )

    structured_log.configure()
    folder = Path(root)

    if (folder / SERVER_FILE).exists():
        config = context.run_config
        # Every key is there, with 0 where a run is for the other.
        if config.get("qualification"):
            rehearse(grid, folder, int(config["qualification"]))
            return
        carry_on(grid, folder, int(config["campaign"]), int(config["attempt"]), context.run_id)
    else:
        simulate(grid, folder)


def carry_on(grid: Grid, folder: Path, number: int, attempt: int, run: int) -> None:
    """One run of campaign `number` with the enrolled sites that are online; put off, as any failed try, if none is.

    Raises:
        GivenUpError: the campaign has ended, or belongs to another run.
    """
    house = open_house(folder)
    row = house.store.get(number)
    terms = house.terms.model_validate(row.settings)
    progress = ProgressFile(house.store.work, number, attempt, house.store.clock)
    nodes = house.nodes()
    try:
        federation = connect_registered(grid, nodes, house.signer(), seen=partial(progress.connecting, nodes))
    except UnavailableError as error:
        # Not a crash, after which the coordinator's loop would start the next run within seconds.
        is_given_up = put_off(house.store, number, attempt, str(error), terms.policy)
        log.warning("campaign %d %s: %s", number, "is given up" if is_given_up else "waits", error)
        return

    card = house.card
    federation.watcher = progress
    federation.classes = len(card.classes)
    watch(federation, house, terms, number)
    federation.downlink = Downlink(terms.experiment.wire.precision, card.frozen_names(), card.encoders)
    federation.timeout = terms.policy.phase_hours * 3600.0
    qualifier = qualification.for_campaigns(house, federation)
    runner = CampaignRunner(federation, house.store, house.registry, card, run, qualifier)
    runner.carry_on(number, attempt)


def rehearse(grid: Grid, folder: Path, number: int) -> None:
    """One run of qualification `number` with the enrolled sites that are online; it leaves where a campaign begins.

    Raises:
        UnavailableError: no site is online.
    """
    house = open_house(folder)
    federation = connect_registered(grid, house.nodes(), house.signer())
    card = house.card
    federation.classes = len(card.classes)
    watch(federation, house, house.terms, None)
    federation.downlink = Downlink(house.settings.experiment.wire.precision, card.frozen_names(), card.encoders)
    federation.timeout = house.settings.policy.phase_hours * 3600.0
    qualification.carry_on(house, federation, number)


def watch(federation: Federation, house: CoordinatorContext, terms: Terms, number: int | None) -> None:
    """Let nothing bad into an aggregate: it is recorded, and a site that is suspended for it is asked no more."""
    quarantine = Quarantine(house.engine, house.store.clock, terms.gate.bad_replies)

    def bad(site: str, kind: str, reason: str, digest: str = "") -> None:
        if quarantine.bad(site, kind, reason, digest, campaign=number):
            federation.nodes = {name: node for name, node in federation.nodes.items() if name != site}

    with transaction(house.engine) as session:
        federation.counts = in_force(session)
        federation.largest = largest(session)
        held_up = select(EventRow.site).where(EventRow.campaign == number, EventRow.kind == HELD_UP)
        slow = [site for site in session.scalars(held_up) if site is not None]
    budget = terms.policy.hold_hours * 3600.0

    def spent(site: str, hours: float) -> None:
        detail = f"held up the others for {hours:.1f} hours; this campaign asks it no more"
        with transaction(house.engine) as session:
            session.add(EventRow(at=house.store.clock(), campaign=number, site=site, kind=HELD_UP, detail=detail))

    # A run that is started again gives a slow site no second budget.
    federation.holding = Holding(budget, spent, dict.fromkeys(slow, budget))
    federation.max_share = terms.gate.max_share
    federation.on_bad_reply = bad
    federation.check_aggregate = lambda kind, before, after: check_aggregate(after, before, kind, terms.gate)
    least = least_step(terms.gate, terms.experiment.unlearn)
    federation.accepts = UpdateGate(terms.gate, bad, quarantine.good, least)


def simulate(grid: Grid, folder: Path) -> None:
    """Train until the validation loss stops falling; then, if revocations wait, forget, audit and decide."""
    file = SimulatedServer.model_validate_json((folder / "server.json").read_bytes())
    config = file.experiment
    federation = connect(grid, file.sites)
    federation.downlink = Downlink(config.wire.precision, file.card.frozen_names(), file.card.encoders)
    initial = file.card.build(config.seed).state_dict()
    training = train(
        federation, initial, config.train, file.card, seed=config.seed, folder=folder / "train", on_round=log_round
    )
    save_checkpoint(folder / "model" / "original", training.state, file.card)
    if not any(status.pending for status in federation.status().values()):
        log.info("no revocation is pending")
        return

    federation.meter = Meter()
    campaign = run_campaign(
        federation, training.state, config, journal=MemoryJournal(), folder=folder, on_round=log_round
    )
    save_checkpoint(folder / "model" / "unlearned", campaign.state, file.card)
    write_text(folder / "audit.json", campaign.figures.model_dump_json(indent=2))
    decision = campaign.decision
    log.info("campaign %s: %s", outcome_text(decision.outcome, decision.grounds), "; ".join(decision.reasons))
