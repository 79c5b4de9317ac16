"""The verdict on the candidate of a run: its own audit, the vetoes of those who are still part of it, the ladder."""

from __future__ import annotations

from functools import partial

from server.campaign.campaign import Aside, Campaign
from server.campaign.journal import DatabaseJournal
from server.campaign.running.set_aside import suspended
from server.campaign.store import CampaignStore
from server.campaign.verdict.judging import Verdict, judge_candidate
from server.campaign.verdict.ladder import Ladder, Qualifier
from server.rounds.journal import step
from server.settings import Terms


def candidate_verdict(
    store: CampaignStore,
    qualifier: Qualifier,
    parent: str,
    campaign: Campaign,
    journal: DatabaseJournal,
    terms: Terms,
) -> Verdict:
    """Judge once, as a step of the journal: a restart finds the verdict, whoever is suspended by then."""

    def work() -> tuple[Verdict, None]:
        aside = journal.get("aside", Aside)
        out = suspended(store) | set(aside[0].sites if aside else ())
        # Whoever was shut out meanwhile can send no figures of the candidate: that is no veto.
        tests_before = {site: figures for site, figures in campaign.before.test_by_site.items() if site not in out}
        before = campaign.before.model_copy(update={"test_by_site": tests_before})
        # Nor does one that was set aside, and still answers, weigh on the others' result.
        tests_after = {site: figures for site, figures in campaign.figures.test_by_site.items() if site not in out}
        after = campaign.figures.model_copy(update={"test_by_site": tests_after})

        own = judge_candidate(before, after, campaign.collected, terms.experiment.decision)
        ladder = Ladder(terms.policy, terms.experiment.decision)
        qualification = partial(qualifier.grounds, parent, campaign, terms, journal)

        return ladder.climb(own, qualification, store.clock()), None

    return step(journal, "verdict", Verdict, work)[0]
