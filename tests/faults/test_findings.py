"""The page of attacks names tests that exist, and covers every finding of the trial."""

from __future__ import annotations

from rogue.findings import ALL
from rogue.findings_page import PAGE, missing, page

FINDINGS = {str(number) for number in range(1, 12) if number != 4} | {"4a", "4b", "4c", "4d", "4e", "all"}


def test_every_finding_is_played_by_a_test_that_exists_and_the_page_says_so() -> None:
    assert {one.finding for one in ALL} == FINDINGS
    assert missing() == []
    assert PAGE.read_text() == page()
