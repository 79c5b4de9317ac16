"""Names with numbers in the order of the numbers."""

from __future__ import annotations

from common.platform.terminal.natural_order import natural


def test_hospitals_come_in_the_order_of_their_numbers() -> None:
    names = ["site-10", "site-2", "north", "site-1", "2b", "site-2a", ""]
    assert sorted(names, key=natural) == ["", "2b", "north", "site-1", "site-2", "site-2a", "site-10"]
