"""What a consent is about, told before anything else of it is read: one that cannot be read may be about other things.

R4 has a scope for it. R5 has none: there the categories say it, the form, or nothing. Only what is known to be about
something else is `OTHER`; what nobody can place is `UNPLACED`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from client.consent.broad_consent import is_form
from client.consent.documents import SCOPES, Coding

_CATEGORIES = "http://terminology.hl7.org/CodeSystem/consentcategorycodes"
_ACT_CODES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_POLICY_CODES = "http://terminology.hl7.org/CodeSystem/consentpolicycodes"
_LOINC = "http://loinc.org"
_OF_HL7_GERMANY = "http://fhir.de/consentmanagement/codesystem/"
_BASIS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+|\d+(?:\.\d+)+")
_TEMPLATE_TYPE = f"{_OF_HL7_GERMANY}templatetype"


class Topic(StrEnum):
    """What a document is about.

    PRIVACY is use and disclosure in general, which research is a part of; UNPLACED, that nothing tells.
    """

    RESEARCH = "research"
    PRIVACY = "privacy"
    OTHER = "other"
    UNPLACED = "unplaced"


_RESEARCH = {
    *((SCOPES, code) for code in ("research",)),
    *((_CATEGORIES, code) for code in ("research", "rsdid", "rsreid")),
    *((_ACT_CODES, code) for code in ("RESEARCH", "RSDID", "RSREID")),
    *((_POLICY_CODES, code) for code in ("cric", "hipaa-research", "nih-hipaa", "nci", "nih-grdr", "ga4gh")),
}
_PRIVACY = {
    *((SCOPES, code) for code in ("patient-privacy",)),
    *((_CATEGORIES, code) for code in ("npp", "emrgonly", "icol", "idscl", "infa", "infao", "infaso", "irdscl")),
    *((_ACT_CODES, code) for code in ("ICOL", "IDSCL", "INFA", "INFAO", "INFASO", "IRDSCL")),
    *((_LOINC, code) for code in ("57016-8", "59284-0", "64292-6")),
}
"""Also what stands on consents of every kind, such as LOINC's "Consent Document"."""
_OTHER = {
    *((SCOPES, code) for code in ("treatment", "adr")),
    *((_CATEGORIES, code) for code in ("acd", "dnr", "hcd", "polst")),
    *((_LOINC, code) for code in ("89057-4", "64293-4", "42348-3", "75320-2", "86533-7", "81334-5", "64298-3")),
}
"""Text messages, procedures, advance directives, living wills, powers of attorney."""


def topic_of(resource: Mapping[str, Any]) -> Topic:
    """What a parsed Consent is about; never fails, however damaged the rest is."""
    scopes = [*_concept(resource.get("scope"))]
    concepts = [[*_concept(concept)] for concept in _listed(resource.get("category"))]
    concepts = [codings for codings in concepts if not _is_technical(codings)]
    codes = {(coding.system, coding.code) for codings in [scopes, *concepts] for coding in codings}
    policy = {(coding.system, coding.code) for coding in _concept(resource.get("policyRule"))}
    is_research = bool((codes | policy) & _RESEARCH) or any(is_form(text) for text in policy_texts(resource))
    # R4 requires a scope, and it is what the author means to say. Categories count only where there is none.
    by_scope = {pair for pair in codes if pair[0] == SCOPES}
    if by_scope & _RESEARCH:
        return Topic.RESEARCH
    if by_scope & _PRIVACY:
        return Topic.RESEARCH if is_research else Topic.PRIVACY
    if by_scope & _OTHER:
        return Topic.UNPLACED if is_research else Topic.OTHER
    # The author meant something by this scope, and nobody can tell what.
    if by_scope or "scope" in resource:
        return Topic.UNPLACED
    if is_research:
        return Topic.RESEARCH
    return _by_category([{(coding.system, coding.code) for coding in codings} for codings in concepts])


def template_types(resource: Mapping[str, Any]) -> frozenset[str]:
    """Codes of HL7 Germany's TemplateType among the categories, in capitals: what kind of document it is."""
    codings = (coding for concept in _listed(resource.get("category")) for coding in _concept(concept))
    return frozenset(coding.code.upper() for coding in codings if coding.system.lower() == _TEMPLATE_TYPE)


def policy_texts(resource: Mapping[str, Any]) -> frozenset[str]:
    """Everything that may name a form or policy: of R4 `policy` and `policyRule`, of R5 `policyBasis`, categories."""
    basis = resource.get("policyBasis")
    texts = [policy.get("uri") for policy in _listed(resource.get("policy"))]

    if isinstance(basis, dict):
        reference = basis.get("reference")
        texts += [basis.get("url"), basis.get("uri")]
        if isinstance(reference, dict):
            identifier = reference.get("identifier")
            texts += [reference.get("reference"), identifier.get("value") if isinstance(identifier, dict) else None]

    texts += [_rule(coding) for coding in _concept(resource.get("policyRule"))]
    categories = (coding.code for concept in _listed(resource.get("category")) for coding in _concept(concept))
    texts += [code for code in categories if is_form(code)]

    return frozenset(text.strip() for text in texts if isinstance(text, str) and text.strip())


def is_basis(text: str) -> bool:
    """Whether a text can name a policy: a URI, or a bare OID."""
    return _BASIS.fullmatch(text) is not None


def _rule(coding: Coding) -> str:
    """A base rule as text; opting in and out follow the same rule, and so may replace each other."""
    return (
        coding.code if is_form(coding.code) else f"{coding.system}|{coding.code.removesuffix('IN').removesuffix('OUT')}"
    )


def _by_category(concepts: list[set[tuple[str, str]]]) -> Topic:
    # A single category that nobody knows may be research.
    if not concepts or not all(codings & (_PRIVACY | _OTHER) for codings in concepts):
        return Topic.UNPLACED
    return Topic.OTHER if any(codings & _OTHER for codings in concepts) else Topic.PRIVACY


def _is_technical(codings: list[Coding]) -> bool:
    """Whether a category says how a document was made, not what it is about."""
    return any(coding.system.lower().startswith(_OF_HL7_GERMANY) for coding in codings)


def _concept(value: object) -> Iterator[Coding]:
    codings = value.get("coding") if isinstance(value, dict) else None
    for coding in _listed(codings):
        system = coding.get("system")
        code = coding.get("code")
        if isinstance(system, str) and isinstance(code, str):
            yield Coding(system.strip(), code.strip())


def _listed(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
