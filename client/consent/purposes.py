"""Purposes of use of HL7 v3 and how one contains another.

https://terminology.hl7.org/CodeSystem-v3-ActReason.html, the concepts below `PurposeOfUse`. Data are used here to train
a machine-learning model for research, so a refusal of either counts whatever purpose a site configures.
"""

from __future__ import annotations

from enum import IntEnum

from client.consent.documents import Coding

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
# Servers spell the same code system, or its value set, in all these ways.
_SYSTEMS = {
    ACT_REASON,
    "https://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://hl7.org/fhir/v3/ActReason",
    "http://terminology.hl7.org/ValueSet/v3-PurposeOfUse",
    "http://hl7.org/fhir/ValueSet/v3-PurposeOfUse",
    "urn:oid:2.16.840.1.113883.5.8",
    "2.16.840.1.113883.5.8",
    "urn:oid:2.16.840.1.113883.1.11.20448",
}
RESEARCH = "HRESCH"
TRAINING = "MLTRAINING"
_CHILDREN = {
    "PurposeOfUse": "HMARKT HOPERAT HPAYMT HRESCH PATRQT PUBHLTH TREAT",
    "HOPERAT": "CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP HQUALIMP HSYSADMIN "
    "MEMADMIN MILCDM PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN MLTRAINING",
    "HSYSADMIN": "LABELING METAMGT",
    "SYSDEV": "HTEST",
    "HDIRECT": "DIRECTORY",
    "HPAYMT": "CLMATTCH COVAUTH COVERAGE REMITADV PMTDS",
    "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
    "HRESCH": "BIORCH CLINTRCH DSRCH POARCH TRANSRCH",
    "CLINTRCH": "CLINTRCHNPC CLINTRCHPC PRECLINTRCH",
    "PATRQT": "FAMRQT PWATRNY SUPNWK",
    "PUBHLTH": "DISASTER THREAT",
    "TREAT": "CLINTRL COC ETREAT POPHLTH TREATDS",
    "ETREAT": "BTG ERTREAT OVRER",
}
_PARENT = {child: parent for parent, children in _CHILDREN.items() for child in children.split()}
_KNOWN = {code.upper(): code for code in {*_PARENT, *_CHILDREN}}


class Reach(IntEnum):
    """Whether a code in a provision reaches what is asked."""

    NO = 0
    MAYBE = 1
    YES = 2


def code_of(purpose: Coding) -> str | None:
    """The purpose as HL7 spells it; None where HL7 knows no such purpose."""
    return _KNOWN.get(purpose.code.strip().upper()) if purpose.system.strip().rstrip("/") in _SYSTEMS else None


def denial_reaches(denied: Coding, asked: Coding | None) -> Reach:
    """Whether a refusal of one purpose refuses what is asked; None asks for research."""
    code = code_of(denied)
    primary = _primary(asked)
    if denied == asked or code in (primary, RESEARCH, TRAINING):
        return Reach.YES if code is not None or denied == asked else Reach.MAYBE
    if code is None:
        return Reach.MAYBE
    if code in _above(primary) or code in _above(RESEARCH):
        return Reach.YES
    if code in _above(TRAINING):
        # Operations of a hospital contain training by HL7's tree, but are seldom meant to: a person decides.
        return Reach.MAYBE

    # Of one kind of research, a refusal of another kind says nothing; one of a part of it may say something.
    if primary is not None and RESEARCH in _above(primary):
        return Reach.MAYBE if primary in _above(code) else Reach.NO
    return Reach.MAYBE if {primary, RESEARCH} & _above(code) else Reach.NO


def permission_reaches(permitted: Coding, asked: Coding | None) -> Reach:
    """Whether a permission for one purpose covers what is asked; one for a part, or for a related purpose, may."""
    code = code_of(permitted)
    primary = _primary(asked)
    if permitted == asked or (code is not None and (code == primary or code in _above(primary))):
        return Reach.YES
    if code is None or primary is None or primary in _above(code):
        return Reach.MAYBE
    if not _is_related(primary):
        return Reach.NO
    return Reach.MAYBE if _is_related(code) else Reach.NO


def is_named(purpose: Coding, asked: Coding | None) -> bool:
    """Whether a permission says the very purpose, not one that contains it among much else."""
    code = code_of(purpose)
    return purpose == asked or (code is not None and code == _primary(asked))


def _primary(asked: Coding | None) -> str | None:
    return RESEARCH if asked is None else code_of(asked)


def _above(code: str | None) -> set[str | None]:
    containing: set[str | None] = set()
    while code is not None and (code := _PARENT.get(code)) is not None:
        containing.add(code)
    return containing


def _is_related(code: str | None) -> bool:
    """Research, training of models, and what contains or is part of either."""
    return code in (RESEARCH, TRAINING) or RESEARCH in _above(code) or code in _above(TRAINING)
