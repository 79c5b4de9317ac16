"""Exceptions of GDPR Art. 17(3) are decisions with a code, a person and a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from client.account.account import accounts_of
from client.account.export import as_csv, as_json
from client.account.letter.letter import Sender, compose
from client.account.letter.subject import subject_of
from client.evidence.event_log import SiteLog
from client.revocations.exemptions import CODES, KEEPS, Exemption, keep_in_part
from client.revocations.ledger import Ledger
from client.revocations.revocation import Request, State
from client.revocations.workflow import decisions
from common.errors import InputError, RefusedError
from common.evidence.keys import SigningKey
from common.evidence.schema import time_text
from common.files import write_private
from common.platform.actor import Actor
from common.platform.keys.private_keys import new_secret

LEE = Actor("Lee", "user lee")


def test_every_exception_of_the_article_has_a_code() -> None:
    assert {article for article, _ in CODES.values()} == {f"17(3)({letter})" for letter in "abcde"}


@pytest.mark.parametrize(("code", "keeps"), [("", "everything"), ("17(3)(d)", "locked-copy"), ("research", "all")])
def test_an_unknown_code_or_part_is_refused(code: str, keeps: str) -> None:
    with pytest.raises(InputError, match="one of"):
        Exemption(code, keeps)


def test_a_request_for_erasure_is_refused_in_whole_by_an_exception(
    ledger: Ledger, asked: Callable[..., Request]
) -> None:
    receipt = ledger.record(asked(kind="erasure"), ["p-0"]).receipt
    assert decisions.refuse(ledger, receipt, LEE, "case 12 is pending", Exemption("legal-claims")) == 1
    (row,) = json.loads(as_json(accounts_of(ledger, None, receipt)))
    (decision,) = row["exceptions"]
    assert row["state"] == "refused"
    assert decision == {
        "exception": "GDPR Art. 17(3)(e)",
        "code": "legal-claims",
        "extent": "whole",
        "keeps": "everything",
        "decided": row["since"],
        "decided_by": "Lee",
        "identity": "user lee",
        "reason": "case 12 is pending",
    }
    assert "17(3)(e) legal-claims" in as_csv(accounts_of(ledger, None, receipt))
    letter = compose(subject_of(ledger, None, receipt), Sender(), "en", ledger.clock(), form="text")
    assert "The law lets us refuse it: it is needed for legal claims (GDPR Art. 17(3)(e))" in " ".join(letter.split())


@pytest.mark.parametrize("kind", ["withdrawal", "objection"])
def test_no_exception_refuses_anything_else_in_whole(ledger: Ledger, asked: Callable[..., Request], kind: str) -> None:
    receipt = ledger.record(asked(kind=kind), ["p-0"]).receipt
    with pytest.raises(RefusedError, match="limits erasure"):
        decisions.refuse(ledger, receipt, LEE, "needed", Exemption("research"))
    (standing,) = ledger.standing(receipt)
    assert standing.state is not State.REFUSED
    assert json.loads(as_json(accounts_of(ledger, None, receipt)))[0]["exceptions"] == []


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_a_part_is_kept_and_the_rest_goes_its_way(ledger: Ledger, asked: Callable[..., Request], language: str) -> None:
    receipt = ledger.record(asked(), ["p-0", "p-1"]).receipt
    before = [standing.state for standing in ledger.standing(receipt)]
    assert keep_in_part(ledger, receipt, LEE, "an audit of the study", Exemption("research", "locked-copy")) == 2
    assert [standing.state for standing in ledger.standing(receipt)] == before
    rows = json.loads(as_json(accounts_of(ledger, None, receipt)))
    assert [row["exceptions"][0]["extent"] for row in rows] == ["part", "part"]
    letter = compose(subject_of(ledger, None, receipt), Sender(), language, ledger.clock(), form="text")  # type: ignore[arg-type]
    assert "17(3)(d)" in " ".join(letter.split())


def test_a_part_needs_a_name_a_reason_and_a_request_that_stands(ledger: Ledger, asked: Callable[..., Request]) -> None:
    receipt = ledger.record(asked(), ["p-0"]).receipt
    part = Exemption("research", "locked-copy")
    with pytest.raises(InputError, match="names no part"):
        keep_in_part(ledger, receipt, LEE, "why", Exemption("research"))
    for actor, reason in ((LEE, " "), (Actor(" ", ""), "why"), (LEE, "x" * 1001)):
        with pytest.raises(RefusedError, match="needs a name"):
            keep_in_part(ledger, receipt, actor, reason, part)
    with pytest.raises(InputError, match="no such receipt"):
        keep_in_part(ledger, "r-9", LEE, "why", part)
    decisions.refuse(ledger, receipt, LEE, "the wrong hospital")
    with pytest.raises(RefusedError, match="no part to keep"):
        keep_in_part(ledger, receipt, LEE, "why", part)
    assert len(KEEPS) == 5


def test_each_decision_is_a_leaf_of_the_log_that_names_nobody_and_can_be_erased(
    ledger: Ledger, asked: Callable[..., Request], configure: Callable[..., None]
) -> None:
    folder = ledger.folder
    if not folder.settings_file.exists():
        configure()
    folder.passphrase.parent.mkdir(exist_ok=True)
    folder.signing_key.parent.mkdir(parents=True, exist_ok=True)
    write_private(folder.signing_key, SigningKey.generate().to_pem(new_secret(folder.passphrase)))
    site = SiteLog(folder, ledger.engine, ledger.clock)

    def documents() -> list[Any]:
        with site.session() as session:
            return [json.loads(item.document) for item in site.log.vault(session, "exempted:")]

    receipt = ledger.record(asked(kind="erasure"), ["p-0", "p-1"]).receipt
    site.follow()
    assert documents() == []
    keep_in_part(ledger, receipt, LEE, "the study of Berg", Exemption("archiving", "study-documents"))
    assert site.follow()
    at = time_text(ledger.clock())
    first = {"at": at, "article": "17(3)(d)", "code": "archiving", "keeps": "study-documents", "receipt": receipt}
    assert documents() == [{**first, "revocations": 2}]
    keep_in_part(ledger, receipt, LEE, "case 12", Exemption("legal-claims", "locked-copy"))
    assert site.follow()
    assert [one["code"] for one in documents()] == ["archiving", "legal-claims"]
    assert not site.follow()
    with site.session() as session:
        leaves = b"".join(site.log.leaves(session)).decode()
    assert not any(word in leaves + json.dumps(documents()) for word in ("Berg", "case 12", "Lee", "p-0", "p-1"))

    site.erase(receipt)
    assert documents() == []
    assert not site.follow()
