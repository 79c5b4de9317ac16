"""The table of outcomes: how many campaigns of a stream were accepted, and on which rung of the ladder."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binomtest

from simulations.comparison.results.tables import DASH
from simulations.stream.record import CampaignRecord, SeedRecord, StreamRecord
from simulations.stream.results.named_table import Named

HEAD = (
    "qualified",
    "campaigns that unlearned",
    "patients in each",
    "accepted by qualification",
    "by their own audit",
    "rejected",
    "inconclusive",
    "accepted [95 %]",
)


def outcomes_table(record: StreamRecord) -> Named:
    """A row for each seed, and one for all; no rows where the stream does not qualify a procedure."""
    seeds = [seed for seed in record.seeds if seed.qualification is not None and seed.campaigns]
    rows = [(f"seed {seed.seed}", _qualified(seed), *_counts(_unlearned(seed))) for seed in seeds]
    if len(seeds) > 1:
        of_all = [campaign for seed in seeds for campaign in _unlearned(seed)]
        qualified_seeds = sum(seed.qualification is not None and seed.qualification.qualified for seed in seeds)
        rows.append(("all", f"{qualified_seeds} of {len(seeds)}", *_counts(of_all)))

    return Named("How many campaigns were accepted by the ladder", HEAD, ("",) * len(HEAD), tuple(rows), "seed")


def accepted_share(campaigns: Sequence[CampaignRecord]) -> tuple[float, float, float]:
    """Share of campaigns that were accepted, with its exact (Clopper-Pearson) 95 % interval."""
    count = sum(_outcome(one) in {"exact", "accepted", "accepted_qualified"} for one in campaigns)
    # Exact: with few campaigns, a normal interval would leave the range from 0 to 1.
    interval = binomtest(count, len(campaigns)).proportion_ci(0.95, method="exact")

    return count / len(campaigns), float(interval.low), float(interval.high)


def _qualified(seed: SeedRecord) -> str:
    if seed.qualification is None:
        return DASH
    return "yes" if seed.qualification.qualified else f"no: {'; '.join(seed.qualification.findings)}"


def _unlearned(seed: SeedRecord) -> list[CampaignRecord]:
    return [one for one in seed.campaigns if one.how == "unlearned"]


def _outcome(campaign: CampaignRecord) -> str:
    return campaign.decision.outcome if campaign.decision else ""


def _counts(campaigns: Sequence[CampaignRecord]) -> tuple[str, ...]:
    if not campaigns:
        return ("0", *(DASH,) * (len(HEAD) - 2))
    sizes = [sum(one.patients.values()) for one in campaigns]
    outcomes = [_outcome(one) for one in campaigns]
    share, low, high = accepted_share(campaigns)

    return (
        str(len(campaigns)),
        f"{min(sizes)} to {max(sizes)}",
        *(str(outcomes.count(name)) for name in ("accepted_qualified", "accepted", "rejected", "inconclusive")),
        f"{share:.2f} [{low:.2f}, {high:.2f}]",
    )
