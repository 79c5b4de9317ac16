"""Exact forgetting: where both encoders are frozen, all that ever saw a patient is trained again without them.

The trained part starts from the weights that the first model started from, with the seeds and the settings of that
training. So the result has the bits of a federation that never had the patients, and no audit decides about it.
"""

from __future__ import annotations

from pydantic import BaseModel

from common.errors import RefusedError
from common.evidence.outcomes.grounds import Descent
from common.learning.config import ExperimentConfig
from common.learning.device import derive_seed
from common.learning.model.card import ModelCard
from common.learning.model.checkpoint import state_digest
from server.campaign.running.publication import How, Published
from server.campaign.store import CampaignStore
from server.registry.registry import Registry
from server.registry.versions import Version
from server.settings import Terms

EXACT = "exact"
"""Name of the method, and step of the journal that holds the origin."""


class NotExactError(RefusedError):
    """A condition of exact forgetting does not hold; the model is trained again from new weights instead."""


class Origin(BaseModel):
    """The training that the trained part of the model began with, and what was frozen from then on."""

    campaign: int
    how: How
    seed: int
    initial: str
    """Digest of the weights that it started from."""
    image_encoder: str
    text_encoder: str
    """Digests of the frozen encoders."""
    declared_by: str
    """Who declares that they were not pretrained on patients of this federation."""
    experiment: ExperimentConfig
    """Of that training."""


class Descents(BaseModel):
    """Rungs of the ladder that a campaign did not end on."""

    steps: tuple[Descent, ...]


def training_seed(experiment: ExperimentConfig, how: How, campaign: int) -> int:
    """Of a campaign that trains: of its initial weights and its order of patients."""
    return derive_seed(experiment.seed, how, campaign) % 2**31


def origin_of(parent: str, registry: Registry, store: CampaignStore, card: ModelCard, terms: Terms) -> Origin:
    """Where the trained part of version `parent` began.

    Raises:
        NotExactError: an encoder is trained, another one than at the first training, or nobody declared what it was
            pretrained on; or the record of the first training is incomplete.
    """
    check_frozen(card, terms.experiment.unlearn.exact.declared_by)
    first = _first(parent, registry, card)
    if first.campaign is None:
        raise NotExactError(f"no campaign of this coordinator trained {first.name}")

    # A version that was trained again exactly refers to the training that it repeated.
    earlier = store.journal_body(first.campaign, EXACT, Origin)
    if earlier is not None:
        campaign, how = earlier.campaign, earlier.how
    else:
        publication = store.journal_body(first.campaign, "published", Published)
        if publication is None or publication.how not in {"trained", "retrained"}:
            raise NotExactError(f"how {first.name} was trained is not on record")
        campaign, how = first.campaign, publication.how

    then = Terms.model_validate(store.get(campaign).settings).experiment
    # Rounding for the wire is part of the result's bits.
    if then.wire != terms.experiment.wire:
        raise NotExactError(
            "weights travelled in another precision at the first training: set experiment.wire as it was then"
        )
    seed = training_seed(then, how, campaign)
    # Computed again from the seed; the digest shows whether this version of torch still gives the same weights.
    initial = state_digest(card.build(seed).state_dict())
    if earlier is not None and earlier.initial != initial:
        raise NotExactError("the initial weights differ from those of the first training: another version of torch?")

    return Origin(
        campaign=campaign,
        how=how,
        seed=seed,
        initial=initial,
        image_encoder=card.image_encoder,
        text_encoder=card.text_encoder,
        declared_by=terms.experiment.unlearn.exact.declared_by,
        experiment=then,
    )


def check_frozen(card: ModelCard, declared_by: str) -> None:
    """Raise a `NotExactError` unless no encoder can have learned from a patient here, or, as declared, elsewhere."""
    if card.model.frozen != "both":
        raise NotExactError("an encoder is trained on patients: model.frozen is not both")
    if not card.image_encoder or not card.text_encoder:
        raise NotExactError("the model card does not pin both encoders by digest")
    if not declared_by.strip():
        raise NotExactError(
            "nobody declared that the encoders were not pretrained on these patients (unlearn.exact.declared_by)"
        )


def _first(parent: str, registry: Registry, card: ModelCard) -> Version:
    """The first version of the line of `parent`; every version of it must have the encoders and the shape of `card`."""
    version = registry.get(parent)

    while True:
        if registry.card(version.name) != card:
            raise NotExactError(f"{version.name} has other encoders or another shape than the model now")
        if version.parent is None:
            return version
        version = registry.get(version.parent)
