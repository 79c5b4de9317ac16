from __future__ import annotations

import pytest

from common.errors import ConfigError
from common.learning.config import ExperimentConfig
from common.learning.evaluation.figures import Branch, ClassAuc, Membership, SelectionFigures, Utility
from common.learning.records import Split, Subset
from simulations.comparison.settings import TuningConfig
from simulations.comparison.tuning import Trial, Tuned, judges, settings_to_try, tuning_score, with_setting

BRANCHES: tuple[Branch, ...] = ("image", "text", "fused")


def figures(mia: float, validation: float) -> SelectionFigures:
    one = ClassAuc(wins=validation * 100, pairs=100, positives=10, negatives=10)
    utility = Utility(patients=20, confusion=((10, 0), (0, 10)), auc=(one, one), loss_sum=1.0, loss_median=None)
    member = Membership(forget_patients=5, control_patients=5, auc=mia, variance=0.01, ks=None, ks_p=None)
    return SelectionFigures(validation=dict.fromkeys(BRANCHES, utility), membership=dict.fromkeys(BRANCHES, member))


def test_the_preset_is_tried_first_and_every_other_setting_once() -> None:
    config = TuningConfig(trials=99)
    tried = settings_to_try(config, "scrub")
    assert tried[0] == {"unlearn.lr": 1.0, "unlearn.passes": 1.0}
    assert len(tried) == 6 == len({tuple(setting.items()) for setting in tried})
    assert settings_to_try(config, "ssd")[0] == {"unlearn.ssd.selection": 1.0}
    assert len(settings_to_try(TuningConfig(trials=2), "scrub")) == 2


def test_a_factor_multiplies_and_whole_numbers_stay_whole() -> None:
    base = ExperimentConfig()
    changed = with_setting(base, {"unlearn.lr": 0.3, "unlearn.passes": 2.0, "unlearn.fed_eraser.interval": 0.1})
    assert changed.unlearn.lr == pytest.approx(0.3 * base.unlearn.lr)
    assert changed.unlearn.passes == 2 * base.unlearn.passes
    assert changed.unlearn.fed_eraser.interval == 1


@pytest.mark.parametrize("name", ["unlearn.magic", "magic.lr"])
def test_a_factor_on_a_setting_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="magic"):
        with_setting(ExperimentConfig(), {name: 2.0})


def test_the_score_is_low_where_attacks_cannot_tell_and_nothing_was_lost() -> None:
    before = figures(0.9, 0.8)
    assert tuning_score(figures(0.5, 0.85), before) == pytest.approx(0.0)
    assert tuning_score(figures(0.7, 0.8), before) == pytest.approx(0.2)
    # Below .5 is a leak as well, and a destroyed model has not forgotten.
    assert tuning_score(figures(0.3, 0.8), before) == pytest.approx(0.2)
    assert tuning_score(figures(0.5, 0.5), before) == pytest.approx(0.3)


def test_who_judges_was_handed_to_no_method() -> None:
    split = Split({f"{subset}-{n}": subset for subset in Subset for n in range(3)})
    judging = judges(split)
    seen_by_methods = {*split.patients(Subset.TRAIN), *split.patients(Subset.CALIBRATION)}
    assert len(judging.patients(Subset.CALIBRATION)) == 6
    assert not seen_by_methods & set(judging.patients(Subset.CALIBRATION))
    assert judging.patients(Subset.TRAIN) == split.patients(Subset.TRAIN)
    assert judging.patients(Subset.VALIDATION) == split.patients(Subset.VALIDATION)
    assert not judging.patients(Subset.AUDIT) + judging.patients(Subset.TEST)


def test_the_lowest_score_is_chosen() -> None:
    trials = tuple(
        Trial(setting={"unlearn.lr": f}, score=s, forward_units=1) for f, s in ((1, 0.3), (3, 0.1), (9, 0.1))
    )
    assert Tuned(method="scrub", allowed=3, trials=trials).chosen == {"unlearn.lr": 3.0}
