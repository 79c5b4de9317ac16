"""What must hold for any consent, also with a part removed or a code that nobody knows: doubt never decides."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from consent_forms import OLD, REASONS, Form, forms
from hypothesis import given, settings
from hypothesis import strategies as st

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.documents import Coding
from client.consent.rule import Answer, Deny, Permit, permitted

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
ENDS = re.compile(r"WITHDRAWAL|REFUSAL|24\.2\.(?:2718|2719|2720|2721|2722|2723|4053|4054)")
THIS = re.compile(r"24\.5\.3\.[18]\b|MDAT_wissenschaftlich|HRESCH|MLTRAINING|PurposeOfUse|HOPERAT")
Path = tuple[Any, ...]


def ask(consents: list[Any], purpose: str) -> Answer:
    return permitted(consents, USE_FOR_RESEARCH, Coding(REASONS, purpose) if purpose else None, NOW)


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield (*here, name)
        yield from paths(part, (*here, name))


def changeable(consents: list[Any]) -> list[Path]:
    """Every part of a consent but an exception as a whole: without its denial a consent denies nothing."""
    return [path for path in paths(consents) if len(path) > 1 and not is_exception(consents, path)]


def is_about_treatment(consents: list[Any]) -> bool:
    """Without its purpose, a refusal of treatment or of an advance directive says nothing of research.

    R4 says so in the scope, R5 in a category.
    """
    said = [str(consent.get("scope")) + str(consent.get("category")) for consent in consents]
    return any(f"'code': '{scope}'" in text for text in said for scope in ("treatment", "adr"))


def is_exception(consents: list[Any], path: Path) -> bool:
    is_nested = path.count("provision") > 1 or isinstance(consents[path[0]].get("provision"), list)
    return is_nested and "provision" in path[-2:]


def changed(consents: list[Any], path: Path, *, remove: bool) -> list[Any]:
    made = copy.deepcopy(consents)
    place = made
    for name in path[:-1]:
        place = place[name]
    if remove or not isinstance(place[path[-1]], str):
        del place[path[-1]]
    else:
        place[path[-1]] = "unknown"

    return made


def denies(consent: Any) -> bool:
    """Whether anybody could read a denial of this in it; told without the rule's own code."""
    rules = [consent.get("provision", {})] if isinstance(consent.get("provision"), dict) else []
    opted_out = "OPTOUT" in str(consent.get("policyRule"))
    is_ended = consent.get("status") in ("inactive", "rejected") or ENDS.search(str(consent)) is not None
    if is_ended or opted_out or (consent.get("decision") == "deny" and not consent.get("provision")):
        return True
    if isinstance(consent.get("provision"), list):
        return THIS.search(str(consent["provision"])) is not None
    while rules:
        rule = rules.pop()
        names = str(rule.get("code", "")) + str(rule.get("purpose", ""))
        if rule.get("type") == "deny" and (THIS.search(names) or not (names or rule.get("provision"))):
            return True
        rules += [inner for inner in rule.get("provision", []) if isinstance(inner, dict)]

    return False


@st.composite
def a_change(draw: st.DrawFn) -> tuple[Form, list[Any], list[Any]]:
    """Consents of one of the forms, perhaps beside an older permission, and the same with one or two parts changed."""
    form = draw(st.sampled_from(forms()))
    whole = [{**OLD, "id": "older", "dateTime": "2019-01-01"}, *form.consents] if draw(st.booleans()) else form.consents
    made = whole
    for _ in range(draw(st.integers(1, 2))):
        if places := changeable(made):
            made = changed(made, draw(st.sampled_from(places)), remove=draw(st.booleans()))

    return form, whole, made


@settings(max_examples=400, deadline=None)
@given(a_change())
def test_no_change_makes_a_permission_of_a_denial(change: tuple[Form, list[Any], list[Any]]) -> None:
    form, whole, made = change
    if isinstance(ask(whole, form.purpose), Deny) and not is_about_treatment(whole):
        assert not isinstance(ask(made, form.purpose), Permit)


@settings(max_examples=400, deadline=None)
@given(a_change())
def test_nobody_is_unlearned_without_a_denial_of_this(change: tuple[Form, list[Any], list[Any]]) -> None:
    form, whole, made = change
    for consents in (whole, made):
        if isinstance(ask(consents, form.purpose), Deny):
            assert any(denies(consent) for consent in consents)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(forms()), st.sampled_from(forms()), st.randoms(use_true_random=False))
def test_the_order_of_consents_of_any_forms_does_not_matter(one: Form, other: Form, random: Any) -> None:
    consents = [
        {**consent, "id": f"{number}-{consent['id']}"}
        for number, form in enumerate((one, other))
        for consent in form.consents
    ]
    answer = ask(consents, one.purpose)
    random.shuffle(consents)
    assert ask(consents, one.purpose) == answer


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([form for form in forms() if form.answer == "silent"]), st.sampled_from(forms()))
def test_a_consent_that_is_silent_changes_no_answer(silent: Form, form: Form) -> None:
    beside = [
        {**consent, "id": f"silent-{consent['id']}", "policy": [{"uri": "urn:other:1"}]} for consent in silent.consents
    ]
    if all("scope" in consent for consent in beside):
        assert ask([*beside, *form.consents], form.purpose) == ask(form.consents, form.purpose)
