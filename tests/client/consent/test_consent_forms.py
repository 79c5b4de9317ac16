"""Every form in which a hospital may write a consent, and that the reference lists what is answered."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from consent_forms import OLD, PAGE, REASONS, TREAT, Form, below, forms, page, provision, r4

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.documents import Coding
from client.consent.rule import SILENT, Answer, Deny, Permit, judged
from client.intake.fhir.resources import weighed

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def named(answer: Answer) -> str:
    if answer == SILENT:
        return "silent"
    return "permit" if isinstance(answer, Permit) else "deny" if isinstance(answer, Deny) else "hold"


@pytest.mark.parametrize("row", forms(), ids=lambda row: f"{row.version} {row.form}")
def test_a_form_is_answered_as_the_table_says(row: Form) -> None:
    purpose = Coding(REASONS, row.purpose) if row.purpose else None
    found = judged(row.consents, USE_FOR_RESEARCH, purpose, NOW)
    assert named(found.answer) == row.answer, found
    assert found.silent or row.answer != "silent"
    kept = [weighed(consent) for consent in row.consents]
    assert judged(kept, USE_FOR_RESEARCH, purpose, NOW) == found


def test_a_denial_below_many_levels_is_found_without_looking_twice_at_any() -> None:
    inner = provision("deny", purposes=("MLTRAINING",))
    for _ in range(36):
        inner = below("permit", inner, purpose=TREAT)
    consent = r4(scope="treatment", uri="urn:a:b", provision=inner)
    begun = time.process_time()
    assert named(judged([OLD, consent], USE_FOR_RESEARCH, None, NOW).answer) == "hold"
    assert time.process_time() - begun < 5


def test_the_reference_lists_the_forms_as_they_are_tested() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python tests/support/consent_forms.py"
