"""Metrics of the federation from the coordinator's database: sites, what waits there, campaigns by state."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from common.platform.sql import transaction
from server.campaign.waiting import site_states
from server.database import AttestationRow, CampaignRow, SiteRow
from server.settings import PolicyConfig


class FederationCollector(Collector):
    """Asks the database at each scrape; one that does not answer is a metric of its own."""

    def __init__(self, engine: Engine, policy: PolicyConfig | None = None) -> None:
        self._engine = engine
        self._policy = policy or PolicyConfig()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks no database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics as they stand."""
        answers = GaugeMetricFamily("fedforget_database_up", "1 when the coordinator's database answers.")

        try:
            metrics = self._federation()
        # No metrics at all would look like a coordinator that is gone.
        except SQLAlchemyError:
            metrics = ()

        answers.add_metric([], float(bool(metrics)))

        return answers, *metrics

    def _federation(self) -> tuple[Metric, ...]:
        active = GaugeMetricFamily("fedforget_site_active", "1 when the site may take part.", labels=["site"])
        pending = GaugeMetricFamily("fedforget_site_pending", "Revocations that wait at the site.", labels=["site"])
        seen_gauge = GaugeMetricFamily("fedforget_site_seen_seconds", "Last heartbeat, Unix time.", labels=["site"])
        due = GaugeMetricFamily("fedforget_site_first_due_seconds", "First due date, Unix time.", labels=["site"])
        failures = GaugeMetricFamily(
            "fedforget_site_failed_campaigns", "Campaigns in a row that forgot nobody of the site's.", labels=["site"]
        )
        person = GaugeMetricFamily(
            "fedforget_site_needs_person", "1 when campaigns for the site are started by hand only.", labels=["site"]
        )
        tries = GaugeMetricFamily("fedforget_campaign_failed_tries", "Of the open campaign, since its last step.")
        start_gauge = GaugeMetricFamily(
            "fedforget_campaign_started_seconds", "When the open campaign was planned, Unix time."
        )
        change_gauge = GaugeMetricFamily(
            "fedforget_campaign_changed_seconds", "Last step of the open campaign, Unix time."
        )
        owed = GaugeMetricFamily(
            "fedforget_attestations_owed", "Attestations that wait for a site's answer or signature."
        )
        campaigns = GaugeMetricFamily("fedforget_campaigns", "Campaigns in each state.", labels=["state"])

        with transaction(self._engine) as session:
            for site in session.scalars(select(SiteRow).order_by(SiteRow.name)):
                active.add_metric([site.name], float(site.state == "active"))
                pending.add_metric([site.name], site.pending)
                for metric, moment in ((seen_gauge, site.seen), (due, site.first_due)):
                    if moment is not None:
                        metric.add_metric([site.name], moment.timestamp())

            for standing in site_states(session, self._policy):
                failures.add_metric([standing.name], standing.failures)
                person.add_metric([standing.name], float(standing.needs_person(self._policy)))

            running = session.scalars(select(CampaignRow).where(CampaignRow.open.is_(True))).first()
            tries.add_metric([], 0 if running is None else running.tries)
            if running is not None:
                start_gauge.add_metric([], running.created.timestamp())
                change_gauge.add_metric([], running.changed.timestamp())
            unsigned_count = select(func.count()).select_from(AttestationRow).where(AttestationRow.envelope == "")
            owed.add_metric([], session.scalar(unsigned_count) or 0)
            for state, number in session.execute(select(CampaignRow.state, func.count()).group_by(CampaignRow.state)):
                campaigns.add_metric([state], number)

        return active, pending, seen_gauge, due, failures, person, tries, start_gauge, change_gauge, owed, campaigns
