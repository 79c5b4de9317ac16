from __future__ import annotations

import pytest

from client.membership.bounds import check_bounds
from client.settings_sections import BoundsConfig
from common.errors import RefusedError
from common.learning.config import UnlearnConfig
from common.protocol.messages import UNLEARN, UnlearnRequest
from common.protocol.wire import pack


def test_a_site_bounds_how_many_layers_may_be_drawn_anew() -> None:
    bounds = BoundsConfig(methods=("eu_k", "cf_k"), max_reset_layers=2)

    def ask(method: str, layers: int) -> None:
        config = UnlearnConfig.model_validate({"method": method, method: {"layers": layers}})
        check_bounds(UNLEARN, pack(UnlearnRequest(config=config, seed=0)), bounds)

    ask("eu_k", 2)
    ask("cf_k", 20)
    with pytest.raises(RefusedError, match=r"bounds\.max_reset_layers allows 2"):
        ask("eu_k", 3)
