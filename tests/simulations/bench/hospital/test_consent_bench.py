"""The figures of the consent bench."""

from __future__ import annotations

from simulations.bench.hospital.loader_bench import paired


def test_the_interval_of_a_median_lies_between_the_differences_that_tables_of_the_sign_test_name() -> None:
    # Two-sided 95 %: of 10 differences the 2nd and the 9th, of 20 the 6th and the 15th, of 5 the outermost.
    for number, low, high in ((5, 1, 5), (10, 2, 9), (20, 6, 15)):
        found = paired([1.0] * number, [1.0 + each for each in range(number, 0, -1)])
        assert (found.low, found.high) == (low, high)
        assert found.median == (number + 1) / 2


def test_differences_are_taken_pair_by_pair_however_much_the_pairs_differ_among_themselves() -> None:
    before = [1.0, 100.0, 10.0, 1000.0, 5.0, 50.0]
    found = paired(before, [each + 2 for each in before])
    assert (found.median, found.low, found.high) == (2, 2, 2)
    assert found.share(100) == "2.00 % (2.00 to 2.00)"
