"""What is fixed before the first rehearsal, and the digest by which everything later refers to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import AwareDatetime

from common.errors import CohortError, ConfigError
from common.evidence.canonical import canonical
from common.learning.config import ExperimentConfig
from common.learning.evaluation.figures import Figures
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.records import Subset
from common.protocol.rehearsals import Rehearsal

REHEARSABLE = ("auto", "replace", "relay", "scaled")
"""With one forgetting hospital these are one and the same: its weights become the model."""


class Register(Figures):
    """Signed and logged before the first rehearsal.

    `parent` is the digest of the weights that all rehearsals begin from, `attempt` counts from 1 within a lineage.
    """

    plan: QualificationPlan
    circumstances: Circumstances
    parent: str
    attempt: int
    retention_rounds: int
    rehearsals: tuple[Rehearsal, ...]
    registered: AwareDatetime

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical text."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def document(self) -> bytes:
        """Canonical text: JSON within JSON, since canonical JSON has no fractions."""
        return canonical({"register": self.model_dump_json()})


def configuration_digest(config: ExperimentConfig, retention_rounds: int) -> str:
    """SHA-256 of all settings by which a candidate is made."""
    # Seed and device change a run, but not the procedure that is qualified.
    settings = config.model_dump(mode="json", exclude={"seed", "device"})
    text = str(sorted(settings.items())) + f" retention {retention_rounds}"
    return hashlib.sha256(text.encode()).hexdigest()


def rehearsing_sites(plan: QualificationPlan, registered: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Sites with enough never-seen patients to compare with, and enough patients to draw from.

    Raises:
        CohortError: together they have too few; the message says how many are missing.
    """
    sites = [
        name
        for name, counts in sorted(registered.items())
        if counts.get(str(Subset.AUDIT), 0) >= plan.controls_per_site
        and counts.get(str(Subset.TRAIN), 0) > 2 * max(plan.sizes)
    ]
    controls = sum(registered[name].get(str(Subset.AUDIT), 0) for name in sites)
    missing = plan.least_controls - controls

    if missing > 0:
        raise CohortError(
            f"the procedure cannot be qualified: {missing} never-seen patients are missing ({controls} at hospitals "
            f"with at least {plan.controls_per_site} of them, {plan.least_controls} needed)",
            remedy="import more patients; until then campaigns rest on their own evidence, or retrain",
        )
    return tuple(sites)


def plan_register(
    plan: QualificationPlan,
    circumstances: Circumstances,
    config: ExperimentConfig,
    *,
    sites: tuple[str, ...],
    parent: str,
    attempt: int = 1,
    retention_rounds: int | None = None,
) -> Register:
    """Deal the rehearsals to the sites in turn, so that each has all sizes.

    Raises:
        ConfigError: the aggregation cannot be rehearsed, or all registered attempts are spent.
    """
    from common.learning.device import derive_seed  # noqa: PLC0415 - torch, which the coordinator's loop does not need

    aggregation = config.campaign.aggregation
    if aggregation not in REHEARSABLE:
        raise ConfigError(
            f"{aggregation} cannot be rehearsed", where="campaign.aggregation", remedy=f"use {', '.join(REHEARSABLE)}"
        )
    # The number of attempts is fixed beforehand: a procedure that is repeated until it passes proves nothing.
    if attempt > plan.attempts:
        raise ConfigError(
            f"{plan.attempts} attempt(s) were registered, and as many have been made",
            remedy="retrain: another model is another lineage",
        )
    rehearsals = tuple(
        Rehearsal(
            number=number,
            site=sites[(number // len(plan.sizes)) % len(sites)],
            patients=plan.size(number),
            seed=derive_seed(plan.seed, "rehearsal", attempt, number) % 2**31,
        )
        for number in range(plan.rehearsals)
    )

    return Register(
        plan=plan,
        circumstances=circumstances,
        parent=parent,
        attempt=attempt,
        retention_rounds=config.campaign.retention_rounds if retention_rounds is None else retention_rounds,
        rehearsals=rehearsals,
        registered=circumstances.at,
    )


def waves(register: Register, model_bytes: int) -> tuple[tuple[Rehearsal, ...], ...]:
    """Rehearsals that travel together: so many, and so many bytes, as the plan allows; at least one."""
    plan = register.plan
    size = max(1, min(plan.wave, plan.wave_bytes // max(1, model_bytes)))
    return tuple(register.rehearsals[at : at + size] for at in range(0, len(register.rehearsals), size))
