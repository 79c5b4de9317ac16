"""Policies and forms of the German Medical Informatics Initiative's broad consent.

https://www.medizininformatik-initiative.de/fhir/modul-consent: profile `mii-pr-consent-einwilligung`, code systems
`mii-cs-consent-policy` and `mii-cs-consent-version-modules`. A withdrawal is a form of its own that stays `active`; the
consent it withdraws may stay `active` too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum, auto

from client.consent.documents import Coding
from client.consent.purposes import Reach

_POLICIES = "2.16.840.1.113883.3.1937.777.24.5.3"
# Not as a part of a longer OID.
_FORM = re.compile(r"(?<![\d.])2\.16\.840\.1\.113883\.3\.1937\.777\.24\.2\.(\d+(?:\.\d+)*)")
_SYSTEMS = {
    f"urn:oid:{_POLICIES}",
    _POLICIES,
    "https://www.medizininformatik-initiative.de/fhir/modul-consent/codesystem/mii-cs-consent-policy",
}
_GICS = "https://ths-greifswald.de/fhir/codesystem/gics/policy"

USE_FOR_RESEARCH = Coding(f"urn:oid:{_POLICIES}", f"{_POLICIES}.8")
"""Scientific use of medical data (MDAT)."""
_NEEDED = {"8": ("6", "7")}
"""Collecting and storing medical data, without which there is nothing to use."""
# Modules of the code system and the policies in them, each by the last part of its OID.
_MODULES = {
    "1": "2 3 4 5 6 7 8 9 37",
    "10": "11 12 13 38",
    "14": "15 16 17 39",
    "18": "19 20 21 22 23",
    "24": "25",
    "26": "27 28 29",
    "30": "31",
    "32": "33 34 40 43 56",
    "35": "36",
    "44": "45 46 47",
    "48": "49",
    "50": "51 52 53",
    "54": "55",
    "57": "58 59 60 61",
}
_MODULE_OF = {policy: module for module, policies in _MODULES.items() for policy in policies.split()}
_KNOWN = {*_MODULES, *_MODULE_OF}
_GICS_NAMES = {
    "PATDAT_ERHEBEN_SPEICHERN_NUTZEN": "1",
    "IDAT_ERHEBEN": "2",
    "IDAT_SPEICHERN_VERARBEITEN": "3",
    "IDAT_ZUSAMMENFUEHREN_DRITTE": "4",
    "IDAT_BEREITSTELLEN_EU_DSGVO_NIVEAU": "5",
    "IDAT_BEREITSTELLEN_EU_DSGVO_KONFORM": "5",
    "MDAT_ERHEBEN": "6",
    "MDAT_SPEICHERN_VERARBEITEN": "7",
    "MDAT_WISSENSCHAFTLICH_NUTZEN_EU_DSGVO_NIVEAU": "8",
    "MDAT_WISSENSCHAFTLICH_NUTZEN_EU_DSGVO_KONFORM": "8",
    "MDAT_ZUSAMMENFUEHREN_DRITTE": "9",
    "BIOMAT_ERHEBEN": "19",
    "BIOMAT_LAGERN_VERARBEITEN": "20",
    "BIOMAT_EIGENTUM_UEBERTRAGEN": "21",
    "BIOMAT_WISSENSCHAFTLICH_NUTZEN_EU_DSGVO_NIVEAU": "22",
    "REKONTAKTIERUNG_ERGAENZUNGEN": "26",
    "REKONTAKTIERUNG_WEITERE_ERHEBUNG": "28",
    "REKONTAKTIERUNG_WEITERE_STUDIEN": "29",
    "REKONTAKTIERUNG_ZUSATZBEFUND": "31",
}
_CONTENT = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://hl7.org/fhir/sid/",
    "http://www.nlm.nih.gov/research/",
)


class Form(Enum):
    """What a form does. ADD_ON and PARTIAL_WITHDRAWAL leave in force what they do not name."""

    CONSENT = auto()
    ADD_ON = auto()
    PARTIAL_WITHDRAWAL = auto()
    FULL_WITHDRAWAL = auto()
    REFUSAL = auto()
    UNKNOWN = auto()


_GENERAL = "184"
"""The broad consent as such, without a word on the form."""
# By the last part of a form's OID; each version of a form has its own.
_KIND_OF = {
    **dict.fromkeys(("1790", "1791", "2079", "3542", "3543", "3544", "4055"), Form.CONSENT),
    **dict.fromkeys(("4031", "4036", "4037", "4048", "4052"), Form.ADD_ON),
    **dict.fromkeys(("2719", "2721", "2723"), Form.PARTIAL_WITHDRAWAL),
    **dict.fromkeys(("2718", "2720", "2722"), Form.FULL_WITHDRAWAL),
    **dict.fromkeys(("4053", "4054"), Form.REFUSAL),
}


def is_form(text: str) -> bool:
    """Whether a policy URI or a category's code names a form, as `urn:oid:`, bare, or inside a URL."""
    return _FORM.search(text) is not None


def form_of(policies: Collection[str]) -> Form | None:
    """The form that policy URIs name; None if it is none of the initiative's, UNKNOWN if not one form."""
    numbers = {match.group(1) for policy in policies for match in _FORM.finditer(policy)}
    if not numbers:
        return None
    kinds = {_KIND_OF.get(number, Form.UNKNOWN) for number in numbers - {_GENERAL}} or {Form.CONSENT}
    # An add-on that is signed with the consent widens it: together they are one consent.
    if kinds == {Form.CONSENT, Form.ADD_ON}:
        return Form.CONSENT
    return next(iter(kinds)) if len(kinds) == 1 else Form.UNKNOWN


def names_only_the_broad_consent(policies: Collection[str]) -> bool:
    """Whether nothing says which form it is: a form that is not known, or the broad consent as such."""
    numbers = {match.group(1) for policy in policies for match in _FORM.finditer(policy)}
    return not any(number in _KIND_OF for number in numbers)


def needed_with(policy: Coding) -> tuple[Coding, ...]:
    """Policies without which one cannot be used; denied by name, they leave its permission in doubt."""
    number = _number(policy)
    return tuple(Coding(f"urn:oid:{_POLICIES}", f"{_POLICIES}.{other}") for other in _NEEDED.get(number or "", ()))


def policy_reaches(codes: Collection[Coding], asked: Coding) -> Reach:
    """Whether a provision with these codes, of which any is enough, is about the policy that is asked.

    A module is about the policies in it, and not the other way round. A code that nobody knows may be about anything,
    unless it stands beside a known one as the same said in another system.
    """
    reaches = [(code, _one_reaches(code, asked)) for code in codes]
    best = max(reach for _, reach in reaches)
    systems = {code.system for code, reach in reaches if reach is not Reach.MAYBE}
    if best is not Reach.MAYBE or not systems:
        return best
    doubtful = {code.system for code, reach in reaches if reach is Reach.MAYBE}

    return Reach.MAYBE if systems & doubtful else Reach.NO


def is_content(code: Coding) -> bool:
    """Whether a code is of a clinical terminology and so tells data apart, not policies."""
    return code.system.startswith(_CONTENT)


def _one_reaches(code: Coding, asked: Coding) -> Reach:
    number = _number(code)
    policy_number = _number(asked)
    if code == asked or (
        number is not None and policy_number is not None and number in (policy_number, _MODULE_OF.get(policy_number))
    ):
        return Reach.YES
    if number is not None or (policy_number is None and code.system == asked.system):
        return Reach.NO
    return Reach.MAYBE


def _number(code: Coding) -> str | None:
    """The last part of a known policy's OID; None for a code that is none."""
    system = code.system.strip().lower()
    text = code.code.strip()
    if system in _SYSTEMS:
        number = text.lower().removeprefix("urn:oid:").removeprefix(f"{_POLICIES}.")
        return number if number in _KNOWN else None

    return _GICS_NAMES.get(text.upper()) if system == _GICS or system.startswith(f"{_GICS}/") else None
