import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.learning.data.tables.mimic_reports import report_text


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("FINAL REPORT\n IMPRESSION: No oedema.\n", "No oedema."),
        ("FINAL REPORT\n FINDINGS AND IMPRESSION:\n Clear.\n NOTIFICATION: Called.\n", "Clear."),
        ("FINAL REPORT\n FINDINGS/IMPRESSION: Clear.\n COMPARISON: None.\n", "Clear."),
        ("FINDINGS: Clear.\nRECOMMENDATION(S): Repeat.\nIMPRESSION: Normal.", "Clear. Repeat. Normal."),
        ("IMPRESSION AND RECOMMENDATION(S): Repeat in a week.\nNOTIFICATION: x", "Repeat in a week."),
        ("Findings: Clear.\nComparison: None.\nImpression: Normal.", "Clear. Normal."),
        (" FINAL REPORT\n FINDINGS:  Heart large.\n CONCLUSION:  Alveolar edema.\n", "Heart large. Alveolar edema."),
        ("FINDINGS:\n Clear.\nRECOMMENDATIONS:\n 1. CT.\n", "Clear. 1. CT."),
        ("FINDINGS\n\n Clear.\n\nIMPRESSION\n\n Normal.", "Clear. Normal."),
        ("INDICATION: cough. FINDINGS: Clear. IMPRESSION: Normal.", "Clear. Normal."),
        ("FINDINGS (PA AND LATERAL): Clear.\nTECHNIQUE: PA.", "Clear."),
    ],
)
def test_the_four_sections_are_taken_in_their_order(text: str, taken: str) -> None:
    assert report_text(text) == taken


@pytest.mark.parametrize(
    "name", ["LUNGS", "HEART AND MEDIASTINUM", "PLEURA", "Lungs", "LINES/TUBES", "CHEST, TWO VIEWS", "BONES"]
)
def test_a_sub_heading_stays_in_its_section(name: str) -> None:
    text = (
        f"FINAL REPORT\n FINDINGS:\n Low volumes.\n {name}: Clear.\n IMPRESSION:\n {name}: Normal.\n COMPARISON: None."
    )
    assert report_text(text) == f"Low volumes. {name}: Clear. {name}: Normal."


@pytest.mark.parametrize(
    "draft",
    [
        "WET READ: ___ ___ 5:33 PM\n IMPRESSION: Severe oedema.\n ______\n",
        "WET READ VERSION #1 ___\n FINDINGS: Severe oedema.\n",
        "PRELIMINARY REPORT\n FINDINGS:\n Severe oedema.\n",
        "ADDENDUM: IMPRESSION: Severe oedema.\n",
    ],
)
@pytest.mark.parametrize(
    "final", ["            FINAL REPORT\n", " FINAL REPORT:\n", "Final Report\n", "FINAL REPORT\r\n"]
)
def test_what_comes_before_the_final_report_does_not_leak_in(draft: str, final: str) -> None:
    assert report_text(draft + final + " FINDINGS: Clear.\n") == "Clear."
    assert report_text(draft + final + " Lungs are clear.\n") == "Lungs are clear."


@pytest.mark.parametrize("draft", ["WET READ: Severe.", "WET READ VERSION #1 5 PM\n Severe.", "ADDENDUM: Severe."])
def test_a_draft_within_the_final_report_is_no_part_of_a_section(draft: str) -> None:
    assert report_text(f"FINAL REPORT\n FINDINGS: Clear.\n {draft}\n IMPRESSION: Normal.") == "Clear. Normal."


def test_line_ends_of_windows_change_nothing() -> None:
    text = "WET READ: x\n FINAL REPORT\n EXAMINATION: Chest.\n FINDINGS:\n Clear.\n IMPRESSION:\n Normal.\n"
    assert report_text(text.replace("\n", "\r\n")) == report_text(text) == "Clear. Normal."


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("WET READ: draft\n FINAL REPORT\n PA and lateral:\n Lungs are clear.", "PA and lateral: Lungs are clear."),
        ("FINAL REPORT\n HISTORY: cough.\n FINDINGS:\n \n", "HISTORY: cough. FINDINGS:"),
        ("Lungs are clear.", "Lungs are clear."),
    ],
)
def test_without_any_of_them_the_final_report_is_taken(text: str, taken: str) -> None:
    assert report_text(text) == taken


@given(st.text(alphabet="FINDGSIMPREO:( )\n\t./-a_", max_size=300))
def test_every_text_gives_words_of_its_own(text: str) -> None:
    assert set(report_text(text).split()) <= {part for word in text.split() for part in (word, *_tails(word))}


def _tails(word: str) -> list[str]:
    """Parts of a word that a heading may cut off."""
    return [word[start:end] for start in range(len(word)) for end in range(start + 1, len(word) + 1)]
