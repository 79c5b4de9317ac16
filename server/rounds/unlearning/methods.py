"""The closed list of all methods: those that run at the hospitals, and those that need the whole federation."""

from __future__ import annotations

from collections.abc import Mapping

from common.learning.unlearning.methods import METHODS, method_named
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import FederatedMethod
from server.rounds.unlearning.exact import train_again
from server.rounds.unlearning.fed_eraser import replay
from server.rounds.unlearning.negation import negate_first_layers
from server.rounds.unlearning.pga import from_others_mean
from server.rounds.unlearning.retrain import retrain

FEDERATED: Mapping[str, FederatedMethod] = {
    "exact": train_again,
    "fed_eraser": replay,
    "not": negate_first_layers,
    "pga": from_others_mean,
    "retrain": retrain,
}
SIMULATED = frozenset({"fed_eraser", "not"})
"""No hospital unlearns in these, so none has a record of it, and none could say which revocations they answer."""


def method_names() -> tuple[str, ...]:
    """Of all methods, sorted."""
    return tuple(sorted({*METHODS, *FEDERATED}))


def campaign_method(name: str) -> FederatedMethod:
    """How a campaign unlearns with the method called `name`.

    Raises:
        ConfigError: there is none.
    """
    if name in FEDERATED:
        return FEDERATED[name]
    method_named(name)
    return at_sites
