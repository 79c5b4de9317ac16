"""The closed list of methods: a setting can name one of these, and nothing else is ever imported by name."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import ConfigError
from common.unlearning.base import Unlearner
from common.unlearning.calibrated_forget_mi import calibrated
from common.unlearning.forget_mi import paper

METHODS: Mapping[str, Unlearner] = {"forget_mi_calibrated": calibrated, "forget_mi_paper": paper}


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
