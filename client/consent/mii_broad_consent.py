"""Forms and policy codes of the German Medical Informatics Initiative's broad consent.

https://www.medizininformatik-initiative.de/fhir/modul-consent, profile `mii-pr-consent-einwilligung`: `policy.uri`
names the form. A withdrawal is a form of its own that stays `active`; the consent it withdraws may stay `active` too.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

from client.consent.consent_document import Coding

_FORMS = "urn:oid:2.16.840.1.113883.3.1937.777.24.2."
_POLICIES = "2.16.840.1.113883.3.1937.777.24.5.3"

USE_FOR_RESEARCH = Coding(f"urn:oid:{_POLICIES}", f"{_POLICIES}.8")
"""Scientific use of medical data (MDAT)."""

BROADER = {USE_FOR_RESEARCH: frozenset({Coding(f"urn:oid:{_POLICIES}", f"{_POLICIES}.1")})}
"""Codes that contain another one: collecting, storing and using patient data. Denied, they deny what they contain."""


class Form(Enum):
    """What a form does. ADD_ON and PARTIAL_WITHDRAWAL leave in force what they do not name."""

    CONSENT = auto()
    ADD_ON = auto()
    PARTIAL_WITHDRAWAL = auto()
    FULL_WITHDRAWAL = auto()
    REFUSAL = auto()
    UNKNOWN = auto()


_KIND_OF = {
    **dict.fromkeys(("1790", "1791", "2079", "3542", "3543", "3544"), Form.CONSENT),
    **dict.fromkeys(("4031", "4036", "4037", "4048"), Form.ADD_ON),
    **dict.fromkeys(("2719", "2721", "2723"), Form.PARTIAL_WITHDRAWAL),
    **dict.fromkeys(("2718", "2720", "2722"), Form.FULL_WITHDRAWAL),
    **dict.fromkeys(("4053", "4054"), Form.REFUSAL),
}


def form_of(policies: Collection[str]) -> Form | None:
    """The form that a consent's policy URIs name; None if it is none of the initiative's, UNKNOWN if not one form."""
    kinds = {_KIND_OF.get(uri.removeprefix(_FORMS), Form.UNKNOWN) for uri in policies if uri.startswith(_FORMS)}
    if kinds == {Form.CONSENT, Form.ADD_ON}:
        return Form.CONSENT
    return next(iter(kinds), None) if len(kinds) < 2 else Form.UNKNOWN
