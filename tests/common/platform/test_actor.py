"""A second person is told from the first by what their names are bound to."""

from __future__ import annotations

import pytest

from common.errors import RefusedError
from common.platform.actor import Actor, by_certificate, by_key, by_user, check_second, in_words

LEE = Actor("lee", by_user(1000, "lee", shared=False))
WEBER = Actor("weber", by_user(1001, "weber", shared=False))
ROOT = Actor("kim", by_user(0, "root", shared=True))
SIGNED = Actor("weber", f"{by_user(0, 'root', shared=True)} {by_key('k1')}")


@pytest.mark.parametrize("approver", ["", "  ", "Lee", " lee "])
def test_a_second_person_has_another_name(approver: str) -> None:
    with pytest.raises(RefusedError):
        check_second(LEE, Actor(approver, WEBER.identity))
    check_second(LEE, WEBER)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (LEE, Actor("weber", LEE.identity), "the same operating-system user"),
        (LEE, Actor("weber", by_user(1000, "other", shared=False)), "the same operating-system user"),
        (LEE, Actor("weber", f"{LEE.identity} {by_key('k1')}"), "the same operating-system user"),
        (Actor("lee", by_key("k1")), Actor("weber", by_key("k1")), "the same key"),
        (Actor("", by_key("k1")), Actor("weber", f"{WEBER.identity} {by_key('k1')}"), "the same key"),
        (Actor("ehr", by_certificate("f")), Actor("weber", by_certificate("f")), "the same certificate"),
        (LEE, ROOT, "nobody can tell"),
        (ROOT, WEBER, "nobody can tell"),
        (ROOT, Actor("weber", ROOT.identity), "nobody can tell"),
        (Actor("mueller"), WEBER, "recorded from not recorded"),
        (Actor(""), Actor("weber"), "nobody can tell"),
    ],
)
def test_another_typed_name_makes_no_second_person(first: Actor, second: Actor, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        check_second(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ROOT, SIGNED),
        (LEE, SIGNED),
        (Actor("mueller"), SIGNED),
        (Actor(""), WEBER),
        (Actor("ehr-1", by_certificate("f")), WEBER),
        (Actor("lee", by_key("k2")), SIGNED),
    ],
)
def test_who_can_be_told_apart_or_signs_may_approve(first: Actor, second: Actor) -> None:
    check_second(first, second)


def test_an_account_that_site_toml_calls_shared_tells_nobody_apart() -> None:
    clinic = by_user(1000, "clinic", shared=False)
    for shared in (["clinic"], ["1000"]):
        with pytest.raises(RefusedError, match="steward's --key"):
            check_second(Actor("lee", clinic), Actor("weber", clinic), shared)
        check_second(Actor("lee", clinic), Actor("weber", f"{clinic} {by_key('k1')}"), shared)


def test_the_record_says_in_words_which_it_was() -> None:
    assert in_words(SIGNED.identity) == "shared account root (0), key k1"
    assert in_words(LEE.identity) == "operating-system user lee (1000)"
    assert in_words("") == "not recorded"
