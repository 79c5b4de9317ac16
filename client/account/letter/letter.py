"""Composes a letter from the ledger's data about one revocation. It names nobody: the office fills in the name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from importlib.resources import files
from itertools import pairwise
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from client.revocations.exemptions import Exemption
from client.revocations.linkage.status import LinkageStatus
from client.revocations.revocation import LIFTED, Event, RevocationStatus, State
from common.evidence.outcomes.acceptance import Acceptance
from common.platform.console.languages import Languages, long_date
from common.platform.console.settings import Language

Format = Literal["html", "text"]

_WAITING = frozenset({State.RECEIVED, State.AWAITING_APPROVAL, State.PENDING, State.IN_CAMPAIGN})
_FORGOTTEN = frozenset({State.UNLEARNED, State.RETRAINED})


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender: name and address, and contact; if empty, the office fills them in."""

    name: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of the letter.

    Attributes:
        standing: the current state of the revocation.
        history: its steps, in order.
        told: what other hospitals were told.
        seen: what the rule that accepted the model could detect; None without a signed statement.
        locked_until: end of the lock on copies of earlier versions; None: no copies.
        copies: how many copies of earlier versions were handed out, and of how many the deletion is confirmed; None:
            the coordinator has not said.
        exemptions: exceptions of GDPR Art. 17(3) by which something is kept.
        overruled: whether a person published the model although a verdict or a veto had stopped it.
    """

    standing: RevocationStatus
    history: Sequence[Event]
    told: LinkageStatus
    seen: Acceptance | None = None
    locked_until: datetime | None = None
    overruled: bool = False
    copies: tuple[int, int] | None = None
    exemptions: Sequence[Exemption] = ()


def texts_of(language: Language) -> dict[str, Any]:
    """The sentences of a language, by the catalogues beside this file."""
    package = files("client.account.letter")
    catalogues = Languages([package.joinpath("locales")])
    return _translated(tomllib.loads(package.joinpath("texts.toml").read_text("utf-8")), language, catalogues)


def _translated(texts: Mapping[str, Any], language: Language, catalogues: Languages) -> dict[str, Any]:
    return {
        name: _translated(text, language, catalogues) if isinstance(text, dict) else catalogues.text(language, text)
        for name, text in texts.items()
    }


def compose(
    subject: Subject,
    sender: Sender,
    language: Language,
    today: datetime,
    zone: tzinfo | None = None,
    form: Format = "html",
) -> str:
    """The letter, as one page of HTML or as plain text in lines of 72 characters.

    Args:
        subject: what it is about.
        sender: the hospital.
        language: of the letter.
        today: its date.
        zone: time zone of the dates; the machine's by default.
        form: HTML or text.
    """
    texts = texts_of(language)
    standing = subject.standing

    def day(moment: datetime) -> str:
        return long_date(language, moment, zone)

    values = {
        "received": day(standing.received),
        "stopped": day(standing.recorded),
        "due": day(standing.due),
        "closed": day(standing.since),
        "scope": texts["scope"][standing.scope],
        "reason": standing.reason.strip().rstrip("."),
        "law": standing.legal_basis,
        "receipt": standing.receipt,
        "campaign": standing.campaign,
        "others": subject.told.others,
        "told": "" if subject.told.at is None else day(subject.told.at),
        "locked": "" if subject.locked_until is None else day(subject.locked_until),
        "tested": 0,
        "most": 0,
        "allowed": 0,
        "rehearsals": 0,
        "copies": 0 if subject.copies is None else subject.copies[0],
        "gone": 0 if subject.copies is None else subject.copies[1],
    }
    if subject.seen is not None and subject.seen.grounds is not None and subject.seen.grounds.qualification is not None:
        values |= {"rehearsals": subject.seen.grounds.qualification.rehearsals}
    if subject.seen is not None and subject.seen.most is not None:
        values |= {"tested": subject.seen.patients, "most": subject.seen.most, "allowed": subject.seen.allowed}
    sections = [
        (texts["headings"]["done"], [*_done(subject, {**texts["done"], **texts["law"]}, values)]),
        (texts["headings"]["remains"], [*_remains(subject, {**texts["remains"], **texts["law"]}, values)]),
        (texts["headings"]["check"], [*_check(subject, sender, texts["check"], values)]),
    ]
    page = {
        "language": language,
        "sender": sender.name,
        "contact": sender.contact,
        "today": day(today),
        "subject": texts["subject"][standing.kind].format(**values),
        "receipt": texts["receipt"].format(**values),
        "opening": texts["opening"]["text"].format(**values, wish=texts["opening"][standing.kind]),
        "sections": sections,
        **{name: texts[name] for name in ("patient", "sender_missing", "contact_missing", "signature")},
    }
    # Strict, as a letter must not go out with a gap in place of a value.
    environment = Environment(
        loader=PackageLoader("client.account.letter"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = {"html": "letter.html.j2", "text": "letter.txt.j2"}[form]

    return environment.get_template(template).render(page) + "\n"


def _done(subject: Subject, texts: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    state = subject.standing.state
    why = _extension(subject.history)
    if state not in LIFTED and state is not State.EXCLUDED:
        yield texts["stopped"].format(**values)
    if state in _WAITING:
        yield texts["waiting"].format(**values)
    elif state is State.ESCALATED:
        yield texts["tried-again"].format(**values)
    else:
        yield texts[str(state)].format(**values)
        if state is State.REFUSED:
            yield from _excepted(subject, texts, is_whole=True)

    if state is State.UNLEARNED:
        yield from _tested(subject.seen, texts, values)
    if subject.overruled and state in _FORGOTTEN:
        yield texts["overruled"]
    if why and subject.standing.closed is None:
        yield texts["extended"].format(reason=why)


def _excepted(subject: Subject, texts: Mapping[str, Any], *, is_whole: bool) -> Iterator[str]:
    """Why the law lets the hospital keep something, for each exception once."""
    for one in dict.fromkeys(subject.exemptions):
        if one.is_whole == is_whole:
            text = texts["excepted" if is_whole else "excepted-in-part"]
            why = texts["exceptions"][one.code]
            yield text.format(article=one.article, why=why, what=texts["keeps"].get(one.keeps, ""))


def _tested(seen: Acceptance | None, texts: Mapping[str, str], values: Mapping[str, Any]) -> Iterator[str]:
    """What the outcome rests on: how the model was tested, and what the test could detect."""
    if seen is not None and seen.outcome in ("exact", "accepted_qualified"):
        yield texts["exact" if seen.outcome == "exact" else "qualified"].format(**values)
        return
    if seen is None or seen.most is None:
        yield texts["not-stated"]
        return

    yield texts["tested"].format(**values)
    if seen.allowed is not None:
        yield texts["rule-wide" if seen.warning else "rule"].format(**values)


def _remains(subject: Subject, texts: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    state = subject.standing.state
    yield texts["records"]
    yield from _excepted(subject, texts, is_whole=False)
    if state in LIFTED:
        return
    yield texts["backups"]
    if state is State.USE_STOPPED:
        yield texts["model"]
    elif state not in (State.EXCLUDED, State.EVALUATION_ONLY):
        yield texts["copies"]
        if subject.copies is not None:
            yield texts["recipients"].format(**values)
        yield texts["locked" if subject.locked_until is None else "locked-until"].format(**values)

    if state is State.UNLEARNED:
        yield texts["proof"]
    yield texts[f"others-{subject.told.how}"].format(**values)
    yield texts["note"]


def _check(subject: Subject, sender: Sender, texts: Mapping[str, str], values: Mapping[str, Any]) -> Iterator[str]:
    yield f"{texts['contact']} {sender.contact}" if sender.contact.strip() else texts["contact-missing"]
    if subject.standing.state is State.USE_STOPPED:
        yield texts["take-back"]
    yield texts["statement"].format(**values)
    if subject.standing.state in _FORGOTTEN and subject.standing.campaign is not None:
        yield texts["campaign"].format(**values)
    yield texts["complaint"]


def _extension(history: Sequence[Event]) -> str:
    """Reason of the last extension, or empty."""
    reasons = [
        later.reason
        for earlier, later in pairwise(history)
        if later.due > earlier.due and later.revocation == earlier.revocation
    ]
    return reasons[-1].strip().rstrip(".") if reasons else ""
