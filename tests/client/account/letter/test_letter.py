"""The letter says what was done, when, what remains and whom to ask, in every language, and names nobody."""

from __future__ import annotations

import html
import io
import re
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pikepdf
import pytest

from client.account.letter.letter import Sender, Subject, compose, texts_of
from client.consent.kinds import KINDS, Kind
from client.revocations.linkage.status import How, LinkageStatus
from client.revocations.revocation import LIFTED, TERMINAL, Event, RevocationStatus, Source, State
from common.evidence.outcomes.acceptance import Figure, acceptance
from common.platform.console.languages import long_date
from common.platform.console.settings import Language
from common.platform.dossier.pdf import as_pdf

RECEIVED = datetime(2026, 11, 2, 8, 14, tzinfo=UTC)
TODAY = datetime(2026, 11, 28, 9, tzinfo=UTC)
STANDING = RevocationStatus(
    number=1,
    receipt="3f9c1a5b7d2e4860",
    pseudonym="ab" * 32,
    source=Source("cli", "3f9c1a5b7d2e4860"),
    scope="all",
    policies=(),
    kind="withdrawal",
    legal_basis="GDPR 7(3)",
    requester="patient",
    identity_check="in person",
    steward="office",
    identity="",
    received=RECEIVED,
    effective=RECEIVED,
    recorded=RECEIVED + timedelta(days=1),
    due=RECEIVED + timedelta(days=30),
    state=State.UNLEARNED,
    since=datetime(2026, 11, 20, 10, tzinfo=UTC),
    reason="",
    remediation="unlearned",
    campaign=7,
    model="cd" * 32,
    steps=4,
)
ALONE = LinkageStatus("not-linked")
SENDER = Sender("North Hospital\n1 Main Street", "Ms Example, 0100 55")
WORDS = {
    State.RECEIVED: "It will be made to forget them",
    State.ON_HOLD: "is still checking your request",
    State.AWAITING_APPROVAL: "It will be made to forget them",
    State.PENDING: "It will be made to forget them",
    State.IN_CAMPAIGN: "It will be made to forget them",
    State.ESCALATED: "did not pass our tests",
    State.EXCLUDED: "has the number on your request",
    State.EVALUATION_ONLY: "only been used to measure",
    State.UNLEARNED: "By 20 November 2026 the model was changed to forget",
    State.RETRAINED: "By 20 November 2026 the model was trained again",
    State.REFUSED: "We could not follow your request, because: the form names somebody else.",
    State.USE_STOPPED: "The model was not changed.",
    State.READMITTED: "Since 20 November 2026 you have been taking part again",
}


def written(language: Language = "en", *, sender: Sender = SENDER, told: LinkageStatus = ALONE, **changes: Any) -> str:
    history = changes.pop("history", ())
    page = compose(Subject(replace(STANDING, **changes), history, told), sender, language, TODAY, UTC)
    return html.unescape(page)


@pytest.mark.parametrize("state", State)
def test_every_state_is_said_in_plain_words(state: State) -> None:
    page = written(state=state, reason="the form names somebody else." if state is State.REFUSED else "")
    for other, words in WORDS.items():
        assert (words in page) == (words == WORDS[state]), other
    assert ("You will get our answer by 2 December 2026" in page) == (state not in TERMINAL)
    assert ("We stopped using your data on 3 November 2026" in page) == (state not in {*LIFTED, State.EXCLUDED})
    assert "3f9c1a5b7d2e4860" in page


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("state", State)
def test_the_plain_text_says_every_sentence_of_the_page_and_no_markup(language: Language, state: State) -> None:
    subject = Subject(replace(STANDING, state=state, reason="<b> & co"), (), ALONE)
    text = compose(subject, SENDER, language, TODAY, UTC, "text")
    page = html.unescape(compose(subject, SENDER, language, TODAY, UTC))
    body = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", page, flags=re.DOTALL)
    sentences = re.findall(r"<(?:li|p|h1|h2)(?: [^>]*)?>(.*)</(?:li|p|h1|h2)>", body)
    joined = " ".join(text.split())
    assert len(sentences) > 8
    assert all(" ".join(sentence.split()) in joined for sentence in sentences)
    assert text.startswith("North Hospital\n1 Main Street\n")
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"&\w+;|</|\{\w*\}|None", text)


def test_a_plain_text_without_a_sender_leaves_lines_for_the_office() -> None:
    text = compose(Subject(STANDING, (), ALONE), Sender(), "en", TODAY, UTC, "text")
    assert text.startswith("Hospital and address: ____")
    assert "Contact (name, telephone): ____" in text


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("state", State)
def test_a_letter_has_no_gap_and_names_nobody(language: Language, state: State) -> None:
    page = written(language, state=state, reason="x")
    assert not re.search(r"\{\w*\}|None|ab{4}|(ab){8}", page)
    assert f'lang="{language}"' in page


def test_all_languages_say_the_same_things_with_the_same_blanks() -> None:
    english = texts_of("en")
    for language in ("de", "fr"):
        translated = texts_of(language)
        assert blanks(english) == blanks(translated)
        assert not set(sentences(english)) & set(sentences(translated))


def sentences(texts: dict[str, Any]) -> list[str]:
    return [one for text in texts.values() for one in (sentences(text) if isinstance(text, dict) else [text])]


def blanks(texts: dict[str, Any], prefix: str = "") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, value in texts.items():
        if isinstance(value, dict):
            found |= blanks(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            found[prefix + name] = {field for _, field, _, _ in string.Formatter().parse(value) if field}

    return found


def test_dates_are_told_as_each_language_does() -> None:
    assert "received 2 November 2026" in written("en")
    assert "eingegangen am 2. November 2026" in written("de")
    assert "reçu le 2 novembre 2026" in written("fr")


def test_what_remains_is_said_and_only_where_it_does() -> None:
    page = written()
    for words in ("Backup copies", "Copies of earlier versions", "evidence, not a proof", "not told other hospitals"):
        assert words in page
    never = written(state=State.EXCLUDED)
    assert "Copies of earlier versions" not in never
    assert "evidence, not a proof" not in never
    assert "signed statement" not in never
    assert "has the number 7" in page
    assert "Backup copies" not in written(state=State.REFUSED, reason="x")


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("language", get_args(Language))
def test_what_other_hospitals_were_told_is_said_as_it_is(language: Language, how: How) -> None:
    told = LinkageStatus("told", 2, datetime(2026, 11, 4, tzinfo=UTC)) if how == "told" else LinkageStatus(how)
    page = written(language, told=told)
    sentences = {name: text for name, text in texts_of(language)["remains"].items() if name.startswith("others-")}
    assert sentences.keys() == {f"others-{each}" for each in get_args(How)}
    day = long_date(language, datetime(2026, 11, 4, tzinfo=UTC), UTC)
    for name, text in sentences.items():
        assert (text.format(told=day, others=2) in page) == (name == f"others-{how}")


def test_an_answer_that_was_put_off_gives_the_reason_until_it_is_given() -> None:
    first = Event(1, 1, RECEIVED, State.RECEIVED, "office", RECEIVED + timedelta(days=30))
    put_off = replace(first, seq=2, due=RECEIVED + timedelta(days=60), reason="a hospital was not reached.")
    of_another = replace(put_off, revocation=2, seq=3, due=RECEIVED + timedelta(days=90), reason="other")
    page = written(state=State.PENDING, history=(first, put_off, of_another))
    assert "more time than the first month, because: a hospital was not reached." in page
    assert "more time" not in written(history=(first, put_off))
    assert "more time" not in written(state=State.PENDING, history=(first,))


def test_what_is_not_set_stays_a_line_for_the_office() -> None:
    assert "Hospital and address:" not in written()
    blank = written(sender=Sender())
    assert "Hospital and address:" in blank
    assert "Contact (name, telephone):" in blank
    assert "Patient (name, date of birth):" in blank
    assert "Ms Example, 0100 55" in written()


def test_a_reason_cannot_bring_markup_into_the_page() -> None:
    standing = replace(STANDING, state=State.REFUSED, reason="<script>alert(1)</script>")
    page = compose(Subject(standing, (), ALONE), SENDER, "en", TODAY, UTC)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_scope_is_named() -> None:
    assert "your images are no longer to be used" in written(scope="images")
    assert "Ihre Befunde sollen nicht mehr verwendet" in written("de", scope="reports")


@pytest.mark.parametrize("language", get_args(Language))
def test_a_letter_says_how_few_were_tested_and_what_the_test_could_not_see(language: Language) -> None:
    """The rule of a real campaign: .15 to .85, with an interval of .25 to .72, on 16 patients."""
    figures = [Figure("image", 0.48, 0.25, 0.72, 0.95, 16)]

    for margin, rule in ((0.35, "rule-wide"), (0.10, "rule")):
        seen = acceptance(figures, margin)
        page = html.unescape(compose(Subject(STANDING, (), ALONE, seen), SENDER, language, TODAY, UTC))
        texts = texts_of(language)["done"]
        values = {"tested": 16, "most": 75, "allowed": 85 if margin > 0.1 else 60}
        assert texts["tested"].format(**values) in page
        for name in ("rule", "rule-wide"):
            assert (texts[name].format(**values) in page) == (name == rule)

    assert texts_of(language)["done"]["not-stated"] in written(language)


@pytest.mark.parametrize("language", get_args(Language))
def test_a_letter_says_that_a_person_overruled_a_test(language: Language) -> None:
    text = texts_of(language)["done"]["overruled"]

    for state in (State.UNLEARNED, State.RETRAINED):
        subject = Subject(replace(STANDING, state=state), (), ALONE, overruled=True)
        assert text in html.unescape(compose(subject, SENDER, language, TODAY, UTC))

    assert text not in written(language)


@pytest.mark.parametrize(
    ("language", "words"), [("en", "3. Deletion confirmed: 2."), ("de", "3. Löschung"), ("fr", "3. Supp")]
)
def test_a_letter_counts_the_copies_that_were_handed_out(language: Language, words: str) -> None:
    page = html.unescape(compose(Subject(STANDING, (), ALONE, copies=(3, 2)), SENDER, language, TODAY, UTC))
    assert words in page
    assert words not in html.unescape(compose(Subject(STANDING, (), ALONE), SENDER, language, TODAY, UTC))


def test_a_letter_says_until_when_a_copy_stays_under_lock() -> None:
    until = datetime(2026, 12, 20, tzinfo=UTC)
    page = html.unescape(compose(Subject(STANDING, (), ALONE, None, until), SENDER, "en", TODAY, UTC))
    assert "kept locked away until 20 December 2026" in page
    assert "locked away" in written()
    assert "locked away" not in written(state=State.EXCLUDED)
    assert "locked away" not in written(state=State.USE_STOPPED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", get_args(Language))
def test_every_kind_is_called_what_it_is(language: Language, kind: Kind) -> None:
    page = written(language, kind=kind)
    texts = texts_of(language)
    day = long_date(language, RECEIVED, UTC)
    for other in KINDS:
        assert (f">{texts['subject'][other].format(received=day)}</h1>" in page) == (other == kind)
    assert texts["opening"][kind] in page


def test_who_opted_out_may_take_it_back_and_is_told_that_the_model_keeps_what_it_learned() -> None:
    page = written(state=State.USE_STOPPED, kind="opt-out")
    assert "You may take back your opt-out at any time" in page
    assert "stay as they are" in page
    assert "Copies of earlier versions" not in page


def test_without_a_contact_nobody_is_told_to_ask_a_blank() -> None:
    page = written(sender=Sender("North Hospital"))
    assert "Ask us, naming the receipt above:<" not in page
    assert "The contact is at the end of this letter" in page


@pytest.mark.parametrize("language", get_args(Language))
def test_the_pdf_is_tagged_and_made_for_archives_and_says_all_of_the_page(language: Language) -> None:
    page = compose(Subject(STANDING, (), ALONE), SENDER, language, TODAY, UTC)
    with pikepdf.open(io.BytesIO(as_pdf(page))) as pdf:
        root = pdf.Root
        assert str(root.Lang) == language
        assert root.MarkInfo.Marked
        assert root.ViewerPreferences.DisplayDocTitle
        assert pikepdf.Name("/GTS_PDFA1") == root.OutputIntents[0].S
        assert root.OutputIntents[0].DestOutputProfile.read_bytes()
        tags = tags_of(root.StructTreeRoot)
        assert {"/H1", "/H2", "/L", "/LI", "/P"} <= set(tags)
        assert tags.count("/H2") == 3
        fonts = {str(name): font for one in pdf.pages for name, font in one.Resources.Font.items()}
        assert fonts
        for font in fonts.values():
            assert "/FontFile2" in font.DescendantFonts[0].FontDescriptor or (
                "/FontFile3" in font.DescendantFonts[0].FontDescriptor
            )
            assert "/ToUnicode" in font
        with pdf.open_metadata() as said:
            assert said.pdfa_status == "2A"
            assert said["pdfuaid:part"] == "1"
            assert said["dc:title"] == texts_of(language)["subject"]["withdrawal"].format(
                received=long_date(language, RECEIVED, UTC)
            )
        assert "/JavaScript" not in str(root.get("/Names", ""))


def tags_of(node: Any) -> list[str]:
    """Names of all elements of a tree of tags."""
    kids = node.get("/K", [])
    kids = kids if isinstance(kids, pikepdf.Array) else [kids]
    own = [str(node.S)] if "/S" in node else []
    return own + [tag for kid in kids if isinstance(kid, pikepdf.Dictionary) for tag in tags_of(kid)]
