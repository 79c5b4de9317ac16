"""The closed list of methods that a hospital runs: a setting can name one of these, nothing is imported by name.

`server/unlearning/methods.py` has those that the coordinator runs, and the list of all.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import ConfigError
from common.unlearning.base import Unlearner
from common.unlearning.calibrated_forget_mi import calibrated
from common.unlearning.cf_k import cf_k
from common.unlearning.eu_k import eu_k
from common.unlearning.fed_quit import fed_quit
from common.unlearning.fine_tune import fine_tune
from common.unlearning.forget_mi import paper
from common.unlearning.multi_delete import multi_delete
from common.unlearning.neg_grad_plus import neg_grad_plus
from common.unlearning.pga import pga
from common.unlearning.salun import salun
from common.unlearning.scrub import scrub
from common.unlearning.ssd import ssd

METHODS: Mapping[str, Unlearner] = {
    "cf_k": cf_k,
    "eu_k": eu_k,
    "fed_quit": fed_quit,
    "fine_tune": fine_tune,
    "forget_mi_calibrated": calibrated,
    "forget_mi_paper": paper,
    "multi_delete": multi_delete,
    "neg_grad_plus": neg_grad_plus,
    "pga": pga,
    "salun": salun,
    "scrub": scrub,
    "ssd": ssd,
}


def method_named(name: str) -> Unlearner:
    """The method called `name`.

    Raises:
        ConfigError: there is none.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ConfigError(
            f"unknown method {name!r}", where="unlearn.method", remedy=f"use one of {', '.join(sorted(METHODS))}"
        ) from None
