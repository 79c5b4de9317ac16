"""The coordinator's own process: the service that sites dial, and the loop that starts campaigns and carries them on.

`python -m server.runtime.coordinator --dir DIR`, which `fedforget-server up` runs beside SuperLink and the gateway.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from common.errors import FedForgetError, WireError
from common.platform.processes.structured_log import configure
from common.platform.sql import transaction
from common.protocol.bundle import Bundle, installed_bundle
from server.attestation.coordinator_evidence import CoordinatorEvidence
from server.attestation.event_log import server_log
from server.campaign.campaign_rows import GivenUpError
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.qualification.store import QualificationStore
from server.campaign.running.tries import put_off
from server.database import CampaignRow, EventRow, signed64, unsigned64
from server.membership.coordination import Coordination, serve
from server.membership.renewal import issuer, renew_own
from server.rounds.states import CampaignState
from server.runtime.control import Control, RunStatus
from server.runtime.flower_database import LogWiper
from server.runtime.node_register import COMPARE_EVERY, NodeRegister, Nodes
from server.runtime.planning import plan

log = logging.getLogger("fedforget.coordinator")

TICK_SECONDS = 2.0
SOON = timedelta(seconds=2)
"""From a run that ended early to the next, the first time."""
RENEW_EVERY = timedelta(hours=1)
"""From one look at the coordinator's own certificate to the next."""
REHEARSE_AGAIN = timedelta(seconds=15)
"""From the start of one run of a qualification to that of the next."""


class Runs(Nodes, Protocol):
    """What the loop needs of `server.runtime.control.Control`."""

    def start(
        self, bundle: Bundle, config: Mapping[str, bool | int | float | str], series: int | None
    ) -> tuple[int, int]:
        """Start a run."""

    def status(self, run: int) -> RunStatus:
        """How far it is."""

    def stop(self, run: int) -> bool:
        """Stop it."""


@dataclass
class Coordinator:
    """One look at everything, every few seconds; all that it knows lies in the database."""

    house: CoordinatorContext
    runs: Runs
    bundle: Bundle
    _nodes: NodeRegister = field(init=False)
    _renew_at: datetime = field(init=False, default=datetime.min.replace(tzinfo=UTC))

    def __post_init__(self) -> None:
        """Look after the nodes of the same SuperLink."""
        self._nodes = NodeRegister(self.house, self.runs)

    def tick(self) -> None:
        """Bring Flower's nodes in line with the register, carry the open campaign on, or plan the next one."""
        # First: a run is of no use to a hospital whose node cannot connect.
        self._nodes.compare()
        row = self.house.store.open()
        if row is None:
            plan(self.house)
            row = self.house.store.open()

        if row is not None:
            self._carry_on(row)
        else:
            self._rehearse()

        self._stop_ended()
        self._drop_candidates()
        self._renew_certificate()
        versions_gone = self.house.registry.collect(
            self.house.store.clock(), self.house.settings.policy.quarantine_days
        )
        if versions_gone:
            log.info("weights of %s deleted, their records stay", ", ".join(versions_gone))

    def _renew_certificate(self) -> None:
        """Look once an hour whether the coordinator's own certificate must be renewed."""
        now = self.house.store.clock()
        if now < self._renew_at or not self.house.settings.renew_certificates:
            return
        self._renew_at = now + RENEW_EVERY
        rehearsals = QualificationStore(self.house.folder.qualifications, self.house.store.clock)
        is_busy = self.house.store.open() is not None or rehearsals.open() is not None

        try:
            certificate = renew_own(self.house.folder, now, is_busy=is_busy)
        except FedForgetError as error:
            # All else goes on; the alert and `doctor` name the days that are left.
            log.error("the coordinator's certificate cannot be renewed: %s", error)
            return

        if certificate is not None:
            detail = f"the coordinator's is renewed, until {certificate.not_valid_after_utc:%Y-%m-%d}"
            with transaction(self.house.engine) as session:
                session.add(EventRow(at=now, kind="certificate", detail=detail))
            log.info("certificate: %s", detail)

    def _drop_candidates(self) -> None:
        active = self.house.registry.active()
        policy = self.house.settings.policy
        before = self.house.store.clock() - timedelta(days=policy.quarantine_days)
        self.house.store.drop_candidates((active.campaign or 0) if active else 0, before)

    def _carry_on(self, row: CampaignRow) -> None:
        """Start a run for the open campaign unless one is under way or its next try is still to come."""
        now = self.house.store.clock()
        if row.run is not None and self._runs_on(unsigned64(row.run)):
            return
        if row.retry_at is not None and now < row.retry_at:
            return
        # Its run has ended without a word about the next try: it crashed, or was killed.
        if row.run is not None and row.retry_at is None:
            self._put_off(row, row.attempt, "the run ended early and is started again", SOON)
            return

        # From here on the run before may write no more, should it still be alive.
        attempt = self.house.store.take_up(row.number)
        series = None if row.series is None else unsigned64(row.series)
        config = {"campaign": row.number, "attempt": attempt}

        try:
            run, series = self._start(config, series)
        except WireError as error:
            self._put_off(row, attempt, f"no run could be started: {error}")
            return

        self.house.store.started(row.number, attempt, run=signed64(run), series=signed64(series))
        log.info("campaign %d: attempt %d", row.number, attempt)

    def _rehearse(self) -> None:
        """Start a run for the open qualification unless a campaign needs the sites, or one is under way."""
        store = QualificationStore(self.house.folder.qualifications, self.house.store.clock)
        number = store.open()
        if number is None or self.house.store.open() is not None:
            return
        standing = store.standing(number)
        if standing.run is not None and self._runs_on(unsigned64(standing.run)):
            return
        if standing.retry_at is not None and self.house.store.clock() < standing.retry_at:
            return

        series = None if standing.series is None else unsigned64(standing.series)
        try:
            run, series = self._start({"qualification": number}, series)
        except WireError as error:
            store.stand(number, retry_at=self.house.store.clock() + COMPARE_EVERY, waits=f"no run: {error}")
            return
        # A run that ends without having moved is started again a little later.
        retry = self.house.store.clock() + REHEARSE_AGAIN
        store.stand(number, run=signed64(run), series=signed64(series), retry_at=retry)
        log.info("qualification %d goes on", number)

    def _start(self, config: Mapping[str, bool | int | float | str], series: int | None) -> tuple[int, int]:
        try:
            return self.runs.start(self.bundle, config, series)
        except WireError:
            if series is None:
                raise
            # A series that SuperLink does not know: its own state was lost, ours was not.
            return self.runs.start(self.bundle, config, None)

    def _put_off(self, row: CampaignRow, attempt: int, reason: str, first: timedelta | None = None) -> None:
        # The record of tries is in the database: a coordinator that starts anew does not begin to count anew.
        policy = self.house.terms.model_validate(row.settings).policy
        with contextlib.suppress(GivenUpError):
            put_off(self.house.store, row.number, attempt, reason, policy, first)

    def _runs_on(self, run: int) -> bool:
        try:
            # A run that SuperLink has never heard of does nothing either.
            return self.runs.status(run).status != "finished"
        except WireError:
            return False

    def _stop_ended(self) -> None:
        """Stop the run of a campaign that was cancelled."""
        with transaction(self.house.engine) as session:
            # A command in another process ended the campaign; only this one holds the connection to SuperLink.
            end_states = [CampaignState.CANCELLED, CampaignState.FAILED]
            rows = session.scalars(
                select(CampaignRow).where(CampaignRow.state.in_(end_states), CampaignRow.run.is_not(None))
            ).all()

        for row in rows:
            if row.run is not None and self._runs_on(unsigned64(row.run)):
                self.runs.stop(unsigned64(row.run))
            with transaction(self.house.engine) as session:
                session.get_one(CampaignRow, row.number).run = None


def run_loop(tick: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Call `tick` for ever; what fails is logged once and tried again."""
    last = ""

    while True:
        try:
            tick()
            last = ""
        except (FedForgetError, SQLAlchemyError) as error:
            # A database's own message quotes the statement with its values.
            text = str(error) if isinstance(error, FedForgetError) else f"the database failed: {type(error).__name__}"
            # Every two seconds: a database that is down overnight would fill the log.
            if text != last:
                log.warning("%s", text)
                last = text

        sleep(TICK_SECONDS)


def main() -> None:
    """Serve and coordinate until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m server.runtime.coordinator", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the coordinator's folder")
    folder = parser.parse_args().dir
    configure()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    house = open_house(folder)
    news = Event()
    # Before anything is served: what a crash left of a publication is settled.
    recovery = house.registry.recover()
    if recovery.missing:
        log.error("versions whose folder is gone: %s", ", ".join(recovery.missing))
    patience = timedelta(days=house.settings.policy.attestation_days)
    desk = CoordinatorEvidence(house.engine, server_log(house.store.clock), house.signing_key(), patience)
    server, _ = serve(
        Coordination(
            house.engine,
            house.store.clock,
            house.registry.deliveries,
            desk=desk,
            gate=house.settings.gate,
            linkage=house.settings.linkage,
            issue=issuer(house.folder) if house.settings.renew_certificates else None,
            announced=news.set,
        ),
        f"{house.settings.ports.listen}:{house.settings.ports.coordination}",
        certificate=house.folder.certificate.read_bytes(),
        key=house.folder.key.read_bytes(),
        ca=house.folder.ca_certificate.read_bytes(),
    )
    control = Control(f"127.0.0.1:{house.settings.ports.superlink}", house.folder.ca_certificate.read_bytes())

    try:
        coordinator = Coordinator(house, control, installed_bundle())
        wiper = LogWiper(house.folder.flower_database)

        def tick() -> None:
            coordinator.tick()
            desk.keep_up()
            # After the tick, which may just have ended the campaign.
            wiper.step(campaign_is_open=house.store.open() is not None)
            # Last, so that a step that hangs or fails shows in the age of this file.
            house.folder.tick.touch()

        def rest(seconds: float) -> None:
            news.wait(seconds)
            news.clear()

        run_loop(tick, rest)
    finally:
        server.stop(5.0).wait()
        control.close()
        house.engine.dispose()


if __name__ == "__main__":
    main()
