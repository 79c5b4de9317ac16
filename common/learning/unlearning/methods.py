"""The closed list of methods that a hospital runs: a setting can only name one of these; nothing is imported by name.

`server/rounds/unlearning/methods.py` lists the methods that the coordinator runs, and all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import ConfigError
from common.learning.unlearning.base import Unlearner
from common.learning.unlearning.calibrated_forget_mi import calibrated
from common.learning.unlearning.compared.cf_k import cf_k
from common.learning.unlearning.compared.eu_k import eu_k
from common.learning.unlearning.compared.fed_quit import fed_quit
from common.learning.unlearning.compared.fine_tune import fine_tune
from common.learning.unlearning.compared.multi_delete import multi_delete
from common.learning.unlearning.compared.neg_grad_plus import neg_grad_plus
from common.learning.unlearning.compared.pga import pga
from common.learning.unlearning.compared.salun import salun
from common.learning.unlearning.compared.scrub import scrub
from common.learning.unlearning.compared.ssd import ssd
from common.learning.unlearning.forget_mi import paper

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
        ConfigError: there is no such method.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ConfigError(
            f"unknown method {name!r}", where="unlearn.method", remedy=f"use one of {', '.join(sorted(METHODS))}"
        ) from None
