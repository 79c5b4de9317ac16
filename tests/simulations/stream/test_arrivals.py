"""Who revokes when: seeded, at the right rate, nobody twice."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from common.errors import ConfigError
from simulations.stream.arrivals import DAYS_A_MONTH, Arrival, arrivals, days
from simulations.stream.settings import ArrivalsConfig


def patients(sites: int = 4, count: int = 2000) -> dict[str, list[str]]:
    return {f"site-{k}": [f"{k}-{n}" for n in range(count)] for k in range(1, sites + 1)}


def quiet(**settings: object) -> ArrivalsConfig:
    return ArrivalsConfig.model_validate({"bursts": 0, **settings})


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others() -> None:
    config = ArrivalsConfig(per_month=20, leaving="site-2")
    assert arrivals(patients(), config, 3) == arrivals(patients(), config, 3)
    assert arrivals(patients(), config, 3) != arrivals(patients(), config, 4)


def test_single_patients_come_as_a_poisson_process_of_the_rate_that_is_set() -> None:
    found = arrivals(patients(), quiet(per_month=200, days=365), 0)
    wanted = 200 * 365 / DAYS_A_MONTH
    assert abs(len(found) - wanted) < 4 * wanted**0.5
    gaps = np.array(days(found))
    # Of an exponential distribution mean and standard deviation are equal.
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.1)
    assert {a.kind for a in found} == {"single"}


def test_nobody_revokes_twice_and_times_are_in_order_and_within_the_stream() -> None:
    config = ArrivalsConfig(per_month=60, bursts=3, burst_patients=20, leaving="site-1", days=200)
    found = arrivals(patients(count=300), config, 5)
    assert len({(a.site, a.patient) for a in found}) == len(found)
    times = [a.at for a in found]
    assert times == sorted(times)
    assert config.start <= times[0]
    assert times[-1] <= config.start + timedelta(days=200)


def test_a_burst_is_of_one_hospital_within_its_days() -> None:
    found = arrivals(patients(), quiet(per_month=0, bursts=1, burst_patients=30, burst_days=2), 1)
    assert len(found) == 30
    assert len({a.site for a in found}) == 1
    assert found[-1].at - found[0].at <= timedelta(days=2)


def test_a_hospital_that_leaves_takes_all_it_has_left_and_nobody_of_it_comes_later() -> None:
    config = quiet(per_month=100, days=100, leaving="site-3", leaves_on_day=50)
    found = arrivals(patients(count=200), config, 2)
    at = config.start + timedelta(days=50)
    mine = [a for a in found if a.site == "site-3"]
    assert len(mine) == 200
    assert {a.kind for a in mine if a.at == at} == {"leave"}
    assert all(a.at <= at for a in mine)
    assert sum(a.kind == "single" for a in mine) > 0


def test_a_hospital_that_is_not_there_and_a_stream_that_leaves_nobody_are_refused() -> None:
    with pytest.raises(ConfigError, match="no hospital 'site-9'"):
        arrivals(patients(), quiet(leaving="site-9"), 0)
    with pytest.raises(ConfigError, match="all training patients would revoke"):
        arrivals(patients(count=2), quiet(per_month=100), 0)


def test_the_text_of_an_arrival_names_no_patient() -> None:
    assert "secret" not in repr(Arrival(ArrivalsConfig().start, "site-1", "secret"))
