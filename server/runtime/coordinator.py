"""The coordinator's own process: the service that sites dial, and the loop that starts campaigns and carries them on.

`python -m server.runtime.coordinator --dir DIR`, which `fedforget-server up` runs beside SuperLink and the gateway.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from common.errors import FedForgetError, RefusedError, WireError
from common.platform.processes.structured_log import configure
from common.platform.sql import transaction
from common.protocol.bundle import Bundle, installed_bundle
from server.attestation.coordinator_evidence import CoordinatorEvidence
from server.attestation.event_log import server_log
from server.campaign.campaign_rows import GivenUpError
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.policy import Start, decide, overdue
from server.campaign.qualification.store import QualificationStore
from server.campaign.running.tries import put_off
from server.campaign.waiting import renewal, report_escalated, site_states
from server.database import CampaignRow, PhaseRow, SiteRow, signed64, unsigned64
from server.membership.coordination import Coordination, serve
from server.membership.renewal import issuer
from server.rounds.states import CampaignState
from server.runtime.control import Control, Node, RunStatus
from server.runtime.flower_database import LogWiper

log = logging.getLogger("fedforget.coordinator")

TICK_SECONDS = 2.0
COMPARE_EVERY = timedelta(minutes=1)
"""How often Flower's nodes are compared with the register although nothing has changed in ours."""
SOON = timedelta(seconds=2)
"""From a run that ended early to the next, the first time."""


REHEARSE_AGAIN = timedelta(seconds=15)
"""From the start of one run of a qualification to that of the next."""


class Runs(Protocol):
    """What the loop needs of `server.runtime.control.Control`."""

    def start(
        self, bundle: Bundle, config: Mapping[str, bool | int | float | str], series: int | None
    ) -> tuple[int, int]:
        """Start a run."""

    def status(self, run: int) -> RunStatus:
        """How far it is."""

    def stop(self, run: int) -> bool:
        """Stop it."""

    def nodes(self) -> list[Node]:
        """Registered nodes."""

    def register_node(self, openssh_public_key: bytes, name: str) -> int:
        """Let a node in."""

    def unregister_node(self, node: int) -> None:
        """Shut a node out."""


@dataclass
class Coordinator:
    """One look at everything, every few seconds; all that it knows lies in the database."""

    house: CoordinatorContext
    runs: Runs
    bundle: Bundle
    _compared: datetime | None = None

    def tick(self) -> None:
        """Bring Flower's nodes in line with the register, carry the open campaign on, or plan the next one."""
        self._nodes()
        row = self.house.store.open()
        if row is None:
            self._plan()
            row = self.house.store.open()

        if row is not None:
            self._carry_on(row)
        else:
            self._rehearse()

        self._stop_ended()
        self._drop_candidates()
        versions_gone = self.house.registry.collect(
            self.house.store.clock(), self.house.settings.policy.quarantine_days
        )
        if versions_gone:
            log.info("weights of %s deleted, their records stay", ", ".join(versions_gone))

    def _drop_candidates(self) -> None:
        active = self.house.registry.active()
        policy = self.house.settings.policy
        before = self.house.store.clock() - timedelta(days=policy.quarantine_days)
        self.house.store.drop_candidates((active.campaign or 0) if active else 0, before)

    def _nodes(self) -> None:
        """Let the nodes of active sites in, under the key they have now, and shut all others out."""
        sites = self.house.sites()
        now = self.house.store.clock()
        has_changed = any((s.state == "active") == (s.node is None) for s in sites if s.state != "suspended")
        if not has_changed and self._compared is not None and now < self._compared + COMPARE_EVERY:
            return
        # A node's name holds its key's digest: found again after a crash between Flower's record and ours.
        node_of = {node.name: node.node for node in self.runs.nodes() if node.status != "unregistered"}
        for site in sites:
            label = f"{site.name}-{hashlib.sha256(site.node_key.encode()).hexdigest()[:16]}"
            node = node_of.get(label)

            if site.state == "active" and (node is None or site.node != signed64(node)):
                # Flower's own state may have been lost, or restored from before the site was let in.
                self._set_node(
                    site.name, self.runs.register_node(site.node_key.encode(), label) if node is None else node
                )
                log.info("%s: its node may connect", site.name)
            elif site.state == "revoked" and site.node is not None:
                self._set_node(site.name, None)
                log.info("%s: its node is shut out", site.name)

        mine = {site.node for site in self.house.sites()}
        for node in node_of.values():
            if signed64(node) not in mine:
                self.runs.unregister_node(node)

        self._compared = now

    def _set_node(self, name: str, node: int | None) -> None:
        with transaction(self.house.engine) as session:
            row = session.get_one(SiteRow, name)
            row.node = None if node is None else signed64(node)

    def _carry_on(self, row: CampaignRow) -> None:
        """Start a run for the open campaign unless one is under way or its next try is still to come."""
        now = self.house.store.clock()
        if row.run is not None and self._runs_on(unsigned64(row.run)):
            return
        if row.retry_at is not None and now < row.retry_at:
            return
        if row.run is not None and row.retry_at is None:
            self._put_off(row, row.attempt, "the run ended early and is started again", SOON)
            return

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
            return self.runs.status(run).status != "finished"
        except WireError:
            return False

    def _plan(self) -> None:
        """Plan a campaign if the policy says so."""
        now = self.house.store.clock()
        settings = self.house.settings
        active = self.house.registry.active()
        if active is None:
            return
        with transaction(self.house.engine) as session:
            sites = site_states(session, settings.policy)
            report_escalated(session, sites, settings.policy, now)
            renew = renewal(session, settings.policy)

        one = settings.experiment.campaign.aggregation == "replace"
        recent = self._recent(now)
        decision = overdue(now, sites, settings.policy, recent) or decide(
            now, sites, settings.policy, running=False, recent=recent, at_once=1 if one else None, renewal=renew
        )

        if isinstance(decision, Start):
            chosen_sites = [site for site in sites if site.name in decision.sites]
            due = min((at for site in chosen_sites if (at := site.due(settings.policy)) is not None), default=None)
            terms = self.house.terms.model_dump(mode="json")

            try:
                number = self.house.store.plan(
                    decision.kind, terms, parent=active.name, due=due, reason=decision.reason, sites=decision.sites
                )
            except RefusedError:
                return

            log.info("campaign %d (%s) is planned: %s", number, decision.kind, decision.reason)

    def _recent(self, now: datetime) -> dict[str, list[datetime]]:
        """When campaigns for each site began within the last day, and when it unlearned in one."""
        since = now - timedelta(days=1)
        recent: dict[str, list[datetime]] = {}

        with transaction(self.house.engine) as session:
            steps = select(PhaseRow).where(PhaseRow.step.startswith("unlearn:"), PhaseRow.finished > since)
            sites_unlearned = {
                (row.campaign, row.step.removeprefix("unlearn:")): row.finished for row in session.scalars(steps)
            }
            recent_campaigns = select(CampaignRow).where(CampaignRow.created > since, CampaignRow.sites.is_not(None))
            for row in session.scalars(recent_campaigns):
                for name in row.sites or ():
                    sites_unlearned.setdefault((row.number, name), row.created)

        for (_, name), at in sites_unlearned.items():
            recent.setdefault(name, []).append(at)
        return recent

    def _stop_ended(self) -> None:
        """Stop the run of a campaign that was cancelled."""
        with transaction(self.house.engine) as session:
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
            wiper.step(campaign_is_open=house.store.open() is not None)
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
