"""The forms in which hospitals write consents, and what the rule answers: data of the tests and of the reference.

`python tests/support/consent_forms.py` writes the table in `docs/reference/consent-rules.md` again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GIVEN = ROOT / "tests" / "client" / "consent" / "cases" / "given"
PAGE = ROOT / "docs" / "reference" / "consent-rules.md"
BEGIN = "<!-- table: begin -->\n"
END = "<!-- table: end -->\n"
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
POLICIES = "2.16.840.1.113883.3.1937.777.24.5.3"
FORMS = "2.16.840.1.113883.3.1937.777.24.2"
TEMPLATE_TYPES = "http://fhir.de/ConsentManagement/CodeSystem/TemplateType"
LOINC = "http://loinc.org"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
CATEGORIES = "http://terminology.hl7.org/CodeSystem/consentcategorycodes"
Json = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """One row: consents of one patient in a form that somebody writes, and the answer (`silent` holds nobody)."""

    form: str
    version: str
    writer: str
    answer: str
    why: str
    consents: list[Json]
    purpose: str = ""


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def policy(number: object) -> Json:
    return concept(f"urn:oid:{POLICIES}", f"{POLICIES}.{number}")


def provision(kind: str, *codes: Json, purposes: tuple[str, ...] = (), **more: Any) -> Json:
    made: Json = {"type": kind, **more}
    if codes:
        made["code"] = [*codes]
    if purposes:
        made["purpose"] = [{"system": REASONS, "code": code} for code in purposes]
    return made


def below(kind: str, *inner: Json, **more: Any) -> Json:
    return {"type": kind, "provision": [*inner], **more}


def r4(
    number: str = "c-1",
    scope: str = "research",
    uri: str | None = f"urn:oid:{FORMS}.2079",
    types: str = "",
    **more: Any,
) -> Json:
    made: Json = {
        "resourceType": "Consent",
        "id": number,
        "meta": {"versionId": "1", "lastUpdated": "2025-02-01T10:00:00Z"},
        "status": "active",
        "scope": concept(SCOPES, scope),
        "category": [concept(LOINC, "57016-8"), *(concept(TEMPLATE_TYPES, code) for code in types.split())],
        "patient": {"reference": "Patient/p-1"},
        "dateTime": "2025-02-01",
        **more,
    }
    if uri is not None:
        made["policy"] = [{"uri": uri}]
    return {name: value for name, value in made.items() if value is not None}


def r5(number: str = "c-1", *categories: Json, **more: Any) -> Json:
    made: Json = {
        "resourceType": "Consent",
        "id": number,
        "meta": {"versionId": "1", "lastUpdated": "2025-02-01T10:00:00Z"},
        "status": "active",
        "category": [*categories],
        "subject": {"reference": "Patient/p-1"},
        "date": "2025-02-01",
        "decision": "permit",
        **more,
    }
    return {name: value for name, value in made.items() if value is not None and value != []}


def given(name: str) -> list[Json]:
    content = json.loads((GIVEN / f"{name}.json").read_text(encoding="utf-8"))
    consents = content if isinstance(content, list) else [content]
    return [{"id": f"given-{number}", **consent} for number, consent in enumerate(consents)]


USE = policy(8)
TREAT = [{"system": REASONS, "code": "TREAT"}]
WILLING = below("deny", provision("permit", USE))
OLD = {**r4("old", provision=WILLING), "dateTime": "2020-01-01"}
BASIS = {"url": "https://hospital.example/research-consent"}
RESEARCH = concept(SCOPES, "research")
MII = "MII"
GICS = "gICS"
HL7 = "HL7 examples"
PCF = "IHE PCF, HL7-EU"
ANY = "any"


def form(number: int, *, bare: bool = False) -> str:
    return f"{'' if bare else 'urn:oid:'}{FORMS}.{number}"


def _broad_consent() -> Iterator[Form]:
    yield Form(
        "root denies, `.8` permitted below", "R4", MII, "permit", "the deepest provision wins", [r4(provision=WILLING)]
    )
    yield Form(
        "module `.1` permitted below", "R4", "CentraXX", "permit", "`.1` contains `.8`", given("module-permitted")
    )
    yield Form(
        "module `.1` permitted, `.8` denied beside it",
        "R4",
        GICS,
        "deny",
        "a provision denies it",
        [r4(provision=below("deny", provision("permit", policy(1)), provision("deny", USE)))],
    )

    for number, word in ((6, "collecting"), (7, "storing")):
        yield Form(
            f"`.8` permitted, `.{number}` denied by name",
            "R4",
            GICS,
            "hold",
            f"{word} is needed for use",
            [r4(provision=below("deny", provision("permit", USE), provision("deny", policy(number))))],
        )
        yield Form(
            f"`.8` permitted, `.{number}` not mentioned",
            "R4",
            MII,
            "permit",
            "only a denial by name is one",
            [r4(provision=below("deny", provision("permit", USE), provision("permit", policy(26))))],
        )

    yield Form(
        "`.8` in one consent, a later denial of `.6` in another",
        "R4",
        GICS,
        "hold",
        "collecting is needed for use",
        [OLD, r4(provision=provision("deny", policy(6)))],
    )
    yield Form(
        "root denies, other policies permitted",
        "R4",
        MII,
        "hold",
        "a base rule alone is no decision",
        [r4(provision=below("deny", provision("permit", policy(22))))],
    )
    yield Form(
        "permission of a code that is not known",
        "R4",
        ANY,
        "hold",
        "it may be this policy",
        [r4(provision=below("deny", provision("permit", concept("urn:oid:1.2.3", "x"))))],
    )
    yield Form(
        "denial of a code that is not known beside `.8`",
        "R4",
        ANY,
        "hold",
        "it may be this policy",
        [r4(provision=below("deny", provision("permit", USE), provision("deny", policy(999))))],
    )
    yield Form(
        "gICS' own policy names",
        "R4",
        GICS,
        "deny",
        "they are the MII's policies",
        [
            r4(
                provision=below(
                    "deny",
                    provision(
                        "deny",
                        concept(
                            "https://ths-greifswald.de/fhir/CodeSystem/gics/Policy",
                            "MDAT_wissenschaftlich_nutzen_EU_DSGVO_NIVEAU",
                        ),
                    ),
                )
            )
        ],
    )
    yield Form(
        "one consent for each policy: a denial, then another policy permitted",
        "R4",
        GICS,
        "deny",
        "what is silent of the question replaces nothing",
        given("denial-and-newer-per-policy"),
    )
    yield Form(
        "the same without a policy URI",
        "R4",
        GICS,
        "deny",
        "what is silent of the question replaces nothing",
        given("denial-and-newer-without-policy"),
    )
    yield Form(
        "one consent for each policy, of another policy and inactive",
        "R4",
        GICS,
        "permit",
        "it is about another policy",
        [OLD, r4(status="inactive", provision=provision("permit", policy(22)))],
    )


def _forms() -> Iterator[Form]:
    spellings = {
        "`urn:oid:`": "urn:oid:{}",
        "bare OID": "{}",
        "capitals": "URN:OID:{}",
        "spaces": " urn:oid:{} ",
        "with a version": "urn:oid:{}|1.0",
        "in a URL": "https://www.medizininformatik-initiative.de/{}",
    }
    for name, spelling in spellings.items():
        uri = spelling.format(f"{FORMS}.2722")
        why = "withdrawn in full"
        yield Form(f"full withdrawal, policy as {name}", "R4", MII, "deny", why, [OLD, r4(uri=uri)])
        yield Form(f"full withdrawal, policy as {name}", "R5", MII, "deny", why, [OLD, r5(policyBasis={"url": uri})])

    for number in (2718, 2720, 2722):
        yield Form(
            f"full withdrawal {number}",
            "R4",
            MII,
            "deny",
            "withdrawn in full",
            [OLD, r4(uri=form(number), provision=WILLING)],
        )

    for number in (4053, 4054):
        yield Form(f"refusal {number}", "R4", MII, "deny", "refused", [r4(uri=form(number))])
    yield Form(
        "full withdrawal in `policyRule`",
        "R4",
        ANY,
        "deny",
        "withdrawn in full",
        [r4(uri=None, policyRule=concept("urn:ietf:rfc:3986", form(2722)))],
    )
    yield Form(
        "full withdrawal in `policyBasis.reference`",
        "R5",
        ANY,
        "deny",
        "withdrawn in full",
        [r5(policyBasis={"reference": {"reference": form(2722)}})],
    )
    yield Form(
        "full withdrawal named by a category",
        "R4",
        MII,
        "deny",
        "withdrawn in full",
        [
            r4(
                uri=form(184),
                category=[
                    concept(
                        "https://www.medizininformatik-initiative.de/fhir/modul-consent/CodeSystem/mii-cs-consent-version-modules",
                        f"{FORMS}.2722",
                    )
                ],
            )
        ],
    )
    biomaterial = below("deny", provision("deny", policy(18)))

    for bare in (False, True):
        name = "bare OID" if bare else "`urn:oid:`"
        yield Form(
            f"partial withdrawal of biomaterial, {name}",
            "R4",
            MII,
            "permit",
            "only what it names is withdrawn",
            [OLD, r4(uri=form(2723, bare=bare), provision=biomaterial)],
        )
        yield Form(
            f"partial withdrawal of `.8`, {name}",
            "R4",
            MII,
            "deny",
            "it names this",
            [OLD, r4(uri=form(2723, bare=bare), provision=below("deny", provision("deny", USE)))],
        )
        yield Form(
            f"add-on for a survey, {name}",
            "R4",
            MII,
            "permit",
            "only what it names is added",
            [OLD, r4(uri=form(4036, bare=bare), provision=below("deny", provision("permit", policy(26))))],
        )

    yield Form(
        "partial withdrawal of `.8` whose period ended",
        "R4",
        MII,
        "deny",
        "a withdrawal does not end with its period",
        [OLD, r4(uri=form(2723), provision=below("deny", provision("deny", USE, period={"end": "2025-03-01"})))],
    )
    yield Form(
        "partial withdrawal that names nothing", "R4", MII, "hold", "it does not say of what", [OLD, r4(uri=form(2723))]
    )
    yield Form("the broad consent as such, 184", "R4", GICS, "permit", "a consent", given("general-broad-consent"))
    yield Form(
        "184 with TemplateType WITHDRAWAL",
        "R4",
        GICS,
        "deny",
        "the kind is the TemplateType's",
        [r4(uri=form(184), types="WITHDRAWAL")],
    )
    yield Form(
        "add-ons as such, 4052",
        "R4",
        MII,
        "permit",
        "an add-on",
        [OLD, r4(uri=form(4052), provision=below("deny", provision("permit", policy(26))))],
    )
    yield Form(
        "a form that is not known", "R4", MII, "hold", "it may withdraw", [r4(uri=form(9999), provision=WILLING)]
    )
    yield Form(
        "no policy at all, `.8` permitted",
        "R4",
        ANY,
        "hold",
        "nobody can tell it from a withdrawal",
        [r4(uri=None, provision=WILLING)],
    )
    yield Form("withdrawal, bare OID", "R4", MII, "deny", "withdrawn in full", given("bare-oid-full-withdrawal"))
    yield Form(
        "withdrawal without a provision, bare OID",
        "R4",
        MII,
        "deny",
        "withdrawn in full",
        given("bare-oid-withdrawal-without-provision"),
    )
    yield Form("add-on, bare OID", "R4", "CentraXX", "permit", "only what it names is added", given("bare-oid-add-on"))
    yield Form(
        "full withdrawal in `policyBasis.url`", "R5", ANY, "deny", "withdrawn in full", given("r5-policy-basis-url")
    )


def _template_types() -> Iterator[Form]:
    uri = "https://ths-greifswald.de/fhir/gics/ConsentTemplate/MII|1.0"
    over = {"start": "2024-01-01", "end": "2025-03-01"}
    yield Form(
        "TemplateType REFUSAL without a provision", "R4", GICS, "deny", "refused", given("template-type-refusal")
    )

    for code, why in (("WITHDRAWAL", "withdrawn"), ("REFUSAL", "refused")):
        yield Form(
            f"TemplateType {code} beside an older permit", "R4", GICS, "deny", why, [OLD, r4(uri=uri, types=code)]
        )
        yield Form(
            f"TemplateType {code}, period over",
            "R4",
            GICS,
            "deny",
            "it does not end with its period",
            [r4(uri=uri, types=code, provision=provision("deny", period=over))],
        )
        yield Form(
            f"TemplateType {code}, `.8` denied",
            "R4",
            GICS,
            "deny",
            why,
            [r4(uri=uri, types=code, provision=below("deny", provision("deny", USE, period=over)))],
        )
        yield Form(
            f"TemplateType {code} that denies biomaterial alone",
            "R4",
            GICS,
            "hold",
            "perhaps of a part only",
            [OLD, r4(uri=uri, types=code, provision=below("deny", provision("deny", policy(18))))],
        )
        yield Form(
            f"TemplateType {code} that permits `.8`",
            "R4",
            GICS,
            "hold",
            "it contradicts itself",
            [r4(uri=uri, types=code, provision=WILLING)],
        )
        yield Form(
            f"TemplateType {code}, inactive",
            "R4",
            GICS,
            "hold",
            "taken back, or ended",
            [r4(uri=uri, types=code, status="inactive")],
        )
        yield Form(
            f"TemplateType {code}, scope treatment",
            "R4",
            GICS,
            "silent",
            "about treatment",
            [r4(uri=uri, types=code, scope="treatment")],
        )
        yield Form(
            f"TemplateType {code}, scope patient-privacy",
            "R4",
            GICS,
            "hold",
            "of use in general",
            [r4(uri=uri, types=code, scope="patient-privacy")],
        )
        yield Form(
            f"TemplateType {code}",
            "R5",
            GICS,
            "deny",
            why,
            [r5("c-1", RESEARCH, concept(TEMPLATE_TYPES, code), decision=None)],
        )

    for code in ("CONSENT", "CONSENT-OPT-IN"):
        yield Form(
            f"TemplateType {code}, `.8` permitted",
            "R4",
            GICS,
            "permit",
            "a consent",
            [r4(uri=uri, types=code, provision=WILLING)],
        )

    yield Form(
        "TemplateType CONSENT-OPT-OUT, another policy permitted",
        "R4",
        GICS,
        "hold",
        "a person must read it",
        [r4(uri=uri, types="CONSENT-OPT-OUT", provision=below("permit", provision("permit", policy(22))))],
    )
    yield Form(
        "TemplateType CONSENT-OPT-OUT, `.8` denied",
        "R4",
        GICS,
        "deny",
        "a provision denies it",
        [r4(uri=uri, types="CONSENT-OPT-OUT", provision=below("permit", provision("deny", USE)))],
    )
    yield Form(
        "TemplateType CONSENT-OPT-OUT of the ePA",
        "R4",
        GICS,
        "silent",
        "about treatment",
        [r4(uri=uri, types="CONSENT-OPT-OUT", scope="treatment", provision=provision("permit"))],
    )
    yield Form(
        "a TemplateType that is not known",
        "R4",
        GICS,
        "hold",
        "it may withdraw",
        [r4(uri=uri, types="NEW", provision=WILLING)],
    )
    yield Form(
        "two TemplateTypes",
        "R4",
        GICS,
        "hold",
        "they contradict each other",
        [r4(uri=uri, types="CONSENT WITHDRAWAL", provision=WILLING)],
    )


def _written_elsewhere() -> Iterator[Form]:
    """Forms of other countries and projects, and how they go wrong; each beside an older permission."""
    uri = "https://hospital.example/policy"
    infa = concept(CATEGORIES, "infa")
    training = provision("deny", purposes=("MLTRAINING",))
    research = {"purpose": [{"system": REASONS, "code": "HRESCH"}]}
    opt = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    doubtful = "a code that nobody knows may mean this"
    unreadable = "unreadable, and may be a no"
    yield from (
        Form(f"{name}, beside an older permission", version, writer, answer, why, [OLD, consent])
        for name, version, writer, answer, why, consent in (
            (
                "treatment permitted, but no training below it",
                "R4",
                PCF,
                "hold",
                "a no below something else",
                r4(
                    uri=uri,
                    scope="patient-privacy",
                    provision=below("permit", below("permit", training, purpose=TREAT)),
                ),
            ),
            (
                "treatment permitted, but `.8` denied below it",
                "R4",
                ANY,
                "hold",
                "a no below something else",
                r4(
                    uri=uri,
                    scope="treatment",
                    provision=below("permit", below("permit", provision("deny", USE), purpose=TREAT)),
                ),
            ),
            (
                "`permit` with an exception for research",
                "R5",
                "FAST",
                "deny",
                "an exception says the opposite",
                r5("n", infa, provision=[research]),
            ),
            (
                "`deny` with an exception for research",
                "R5",
                "FAST",
                "permit",
                "an exception says the opposite",
                r5("n", infa, decision="deny", policyBasis=BASIS, provision=[research]),
            ),
            (
                "three levels that end in a no to `.8`",
                "R5",
                ANY,
                "deny",
                "each level says the opposite",
                r5(
                    "n",
                    RESEARCH,
                    policyBasis=BASIS,
                    provision=[{**research, "provision": [{"code": [policy(1)], "provision": [{"code": [USE]}]}]}],
                ),
            ),
            (
                "`policyBasis` as a list",
                "R5",
                ANY,
                "hold",
                unreadable,
                r5("n", RESEARCH, policyBasis=[{"url": form(2722)}]),
            ),
            ("`provision` as one object", "R5", ANY, "hold", unreadable, r5("n", RESEARCH, provision=research)),
            ("`decision` of another version", "R5", ANY, "hold", unreadable, r5("n", RESEARCH, decision="refuse")),
            ("status in capitals", "R4", ANY, "hold", unreadable, r4(uri=uri, status="INACTIVE")),
            ("status `revoked`", "R4", ANY, "hold", unreadable, r4(uri=uri, status="revoked")),
            (
                "scope of another system",
                "R4",
                "NHS",
                "hold",
                unreadable,
                r4(uri=uri) | {"scope": concept("https://fhir.nhs.uk/scope", "opt-out")},
            ),
            (
                "scope with a version",
                "R4",
                ANY,
                "hold",
                unreadable,
                r4(uri=uri, status="inactive") | {"scope": concept(f"{SCOPES}|4.0.1", "research")},
            ),
            (
                "a consent of STU3 that opts out",
                "STU3",
                HL7,
                "hold",
                unreadable,
                {
                    "resourceType": "Consent",
                    "id": "n",
                    "status": "active",
                    "patient": {"reference": "Patient/p-1"},
                    "dateTime": "2025-03-03",
                    "policyRule": "http://hl7.org/fhir/ConsentPolicy/opt-out",
                },
            ),
            (
                "code by extension alone",
                "R4",
                ANY,
                "hold",
                unreadable,
                r4(
                    uri=uri,
                    provision=below(
                        "permit", {"type": "deny", "code": [{"extension": [{"url": "urn:x", "valueCode": "8"}]}]}
                    ),
                ),
            ),
            (
                "code in words alone",
                "R4",
                ANY,
                "hold",
                unreadable,
                r4(uri=uri, provision=below("permit", {"type": "deny", "code": [{"text": "Daten nutzen"}]})),
            ),
            (
                "a local code for training, scope treatment",
                "R4",
                ANY,
                "hold",
                doubtful,
                r4(uri=uri, scope="treatment", provision=provision("deny", concept("https://klinik.example/cs", "KI"))),
            ),
            (
                "`MLTRAINING` as a code",
                "R4",
                ANY,
                "hold",
                doubtful,
                r4(uri=uri, scope="treatment", provision=provision("deny", concept(REASONS, "MLTRAINING"))),
            ),
            (
                "`MLTRAINING` as an action, scope treatment",
                "R4",
                ANY,
                "hold",
                "the action is not weighed",
                r4(uri=uri, scope="treatment", provision=provision("deny", action=[concept(REASONS, "MLTRAINING")])),
            ),
            (
                "`HRESCH` as a security label, scope treatment",
                "R4",
                ANY,
                "hold",
                "the label is not weighed",
                r4(
                    uri=uri,
                    scope="treatment",
                    provision=provision("deny", securityLabel=[{"system": REASONS, "code": "HRESCH"}]),
                ),
            ),
            (
                "another action denied, scope treatment",
                "R4",
                HL7,
                "permit",
                "about treatment",
                r4(
                    uri=uri,
                    scope="treatment",
                    provision=provision(
                        "deny", action=[concept("http://terminology.hl7.org/CodeSystem/consentaction", "disclose")]
                    ),
                ),
            ),
            (
                "GA4GH's data use as a code",
                "R4",
                "GA4GH",
                "hold",
                doubtful,
                r4(
                    uri=uri,
                    scope="patient-privacy",
                    provision=provision("deny", concept("http://purl.obolibrary.org/obo/duo.owl", "DUO_0000006")),
                ),
            ),
            (
                "policy rule `OPTOUT`, scope research",
                "R4",
                HL7,
                "deny",
                "it opts out",
                r4(uri=None, policyRule=concept(opt, "OPTOUT")),
            ),
            (
                "policy rule `OPTOUT`, scope patient-privacy",
                "R4",
                HL7,
                "hold",
                "a no in general",
                r4(uri=None, scope="patient-privacy", policyRule=concept(opt, "OPTOUT")),
            ),
            (
                "policy rule `OPTOUT`, scope treatment",
                "R4",
                HL7,
                "permit",
                "about treatment",
                r4(uri=None, scope="treatment", policyRule=concept(opt, "OPTOUT")),
            ),
            (
                "charge item consent of the e-prescription",
                "R4",
                "gematik",
                "permit",
                "about another matter",
                r4(
                    uri=None,
                    scope="patient-privacy",
                    category=[
                        concept("https://gematik.de/fhir/erpchrg/CodeSystem/GEM_ERPCHRG_CS_ConsentType", "CHARGCONS")
                    ],
                    policyRule=concept(opt, "OPTIN"),
                ),
            ),
            (
                "secondary use denied in the ePA",
                "R4",
                "gematik",
                "hold",
                "a no in general",
                r4(
                    uri=uri,
                    scope="patient-privacy",
                    category=[concept("https://gematik.de/fhir/epa/CodeSystem/epa-consent-category", "secondary-use")],
                    provision=provision("deny"),
                ),
            ),
            (
                "permit of treatment alone, scope patient-privacy",
                "R4",
                "CH Core",
                "permit",
                "about other purposes",
                r4(uri=uri, scope="patient-privacy", provision=provision("permit", purposes=("TREAT",))),
            ),
            (
                "no to one class of data",
                "R4",
                ANY,
                "hold",
                "the class is not weighed",
                r4(
                    uri=uri,
                    provision=below(
                        "permit",
                        {**provision("deny"), "class": [{"system": RESOURCE_TYPES, "code": "ImagingStudy"}]},
                    ),
                ),
            ),
            (
                "no to one study",
                "R4",
                PCF,
                "hold",
                "the actor is not weighed",
                r4(
                    uri=uri,
                    provision=below(
                        "permit", provision("deny", actor=[{"reference": {"reference": "ResearchStudy/1"}}])
                    ),
                ),
            ),
            (
                "categories research and treatment",
                "R5",
                ANY,
                "deny",
                "research is one of them",
                r5("n", RESEARCH, concept(SCOPES, "treatment"), decision="deny"),
            ),
            (
                "a withdrawal without a date",
                "R4",
                MII,
                "hold",
                "nobody knows which is the last",
                r4(uri=form(2722), dateTime=None),
            ),
            (
                "a withdrawal whose date FHIR does not define",
                "R4",
                MII,
                "hold",
                unreadable,
                r4(uri=form(2722), dateTime="01.02.2026"),
            ),
            (
                "consent and withdrawal in one",
                "R4",
                MII,
                "hold",
                "they contradict each other",
                r4(uri=None, policy=[{"uri": form(2079)}, {"uri": form(2722)}]),
            ),
        )
    )


def _purposes() -> Iterator[Form]:
    general = "patient-privacy"
    yield Form(
        "no to training, scope patient-privacy",
        "R4",
        "HL7-EU",
        "deny",
        "purpose counts whatever the scope",
        given("training-refused"),
    )
    yield Form(
        "the same beside a research permit",
        "R4",
        "HL7-EU",
        "deny",
        "the newest denies",
        given("training-refused-beside-permit"),
    )

    for scope in ("research", general, "treatment", "adr"):
        for code in ("MLTRAINING", "HRESCH", "PurposeOfUse"):
            yield Form(
                f"denial of `{code}`, scope {scope}",
                "R4",
                PCF,
                "deny",
                "the purpose, or one that contains it",
                [OLD, r4(uri="urn:a:b", scope=scope, provision=provision("deny", purposes=(code,)))],
            )

        for code in ("CLINTRCH", "BIORCH", "DSRCH", "TRANSRCH", "POARCH"):
            yield Form(
                f"denial of `{code}`, scope {scope}",
                "R4",
                PCF,
                "hold",
                "a part of the purpose",
                [OLD, r4(uri="urn:a:b", scope=scope, provision=provision("deny", purposes=(code,)))],
            )

        yield Form(
            f"denial of `HOPERAT`, scope {scope}",
            "R4",
            PCF,
            "hold",
            "it contains training",
            [OLD, r4(uri="urn:a:b", scope=scope, provision=provision("deny", purposes=("HOPERAT",)))],
        )
        yield Form(
            f"denial of a purpose that is not known, scope {scope}",
            "R4",
            ANY,
            "hold",
            "it may be this",
            [OLD, r4(uri="urn:a:b", scope=scope, provision=provision("deny", purposes=("X-9",)))],
        )

        for code in ("TREAT", "HPAYMT", "HMARKT", "PUBHLTH", "TREATDS", "HQUALIMP"):
            yield Form(
                f"denial of `{code}`, scope {scope}",
                "R4",
                PCF,
                "permit",
                "another purpose",
                [OLD, r4(uri="urn:a:b", scope=scope, provision=provision("deny", purposes=(code,)))],
            )

    for code in ("MLTRAINING", "HRESCH"):
        yield Form(
            f"exception for `{code}` below permit",
            "R5",
            PCF,
            "deny",
            "an exception says the opposite",
            [
                OLD,
                r5(
                    "c-1",
                    concept(LOINC, "59284-0"),
                    policyBasis=BASIS,
                    provision=[{"purpose": [{"system": REASONS, "code": code}]}],
                ),
            ],
        )

    yield Form(
        "denial of `HOPERAT`, purpose MLTRAINING asked",
        "R4",
        PCF,
        "deny",
        "it contains the purpose",
        [OLD, r4(uri="urn:a:b", scope=general, provision=provision("deny", purposes=("HOPERAT",)))],
        "MLTRAINING",
    )
    yield Form(
        "denial of `BIORCH`, purpose CLINTRCH asked",
        "R4",
        PCF,
        "permit",
        "another part of research",
        [OLD, r4(uri="urn:a:b", scope=general, provision=provision("deny", purposes=("BIORCH",)))],
        "CLINTRCH",
    )
    yield Form(
        "permit of `HRESCH`, purpose CLINTRCH asked",
        "R4",
        PCF,
        "permit",
        "research contains it",
        [r4(provision=provision("permit", purposes=("HRESCH",)))],
        "CLINTRCH",
    )
    yield Form(
        "permit of `CLINTRCH` below deny, purpose HRESCH asked",
        "R4",
        PCF,
        "hold",
        "a part does not permit the whole",
        [r4(provision=below("deny", provision("permit", purposes=("CLINTRCH",))))],
        "HRESCH",
    )
    yield Form(
        "permit of `MLTRAINING`, that purpose asked",
        "R4",
        "HL7-EU",
        "permit",
        "it names the purpose",
        [r4(uri="urn:a:b", scope=general, provision=provision("permit", purposes=("MLTRAINING",)))],
        "MLTRAINING",
    )
    yield Form(
        "permit of `TREAT`, `HPAYMT` and `HOPERAT`",
        "R4",
        "US hospitals",
        "silent",
        "care, payment and operations",
        [r4(uri="urn:a:b", scope=general, provision=provision("permit", purposes=("TREAT", "HPAYMT", "HOPERAT")))],
        "MLTRAINING",
    )
    yield Form(
        "permit of `HRESCH`, scope treatment",
        "R4",
        ANY,
        "hold",
        "it contradicts itself",
        [r4(uri="urn:a:b", scope="treatment", provision=provision("permit", purposes=("HRESCH",)))],
    )


def _other_matters() -> Iterator[Form]:
    yield Form("no text messages", "R5", "HIV programmes", "silent", "about text messages", given("r5-text-messages"))
    yield Form("treatment, `59284-0`", "R5", HL7, "silent", "in general, and it permits", given("r5-treatment"))

    for code in ("treatment", "adr"):
        for status in ("active", "inactive", "entered-in-error"):
            yield Form(
                f"scope {code}, {status}",
                "R4",
                HL7,
                "silent",
                "about another matter",
                [r4(uri="urn:a:b", scope=code, status=status, provision=provision("permit"))],
            )
            yield Form(
                f"category {code}, {status}",
                "R5",
                HL7,
                "silent",
                "about another matter",
                [r5("c-1", concept(SCOPES, code), status=status)],
            )

    yield Form(
        "advance directive, denied",
        "R5",
        HL7,
        "silent",
        "about another matter",
        [r5("c-1", concept(CATEGORIES, "acd"), decision="deny")],
    )
    yield Form(
        "a category that is not known",
        "R5",
        ANY,
        "hold",
        "nothing tells what it is about",
        [r5("c-1", concept("https://hospital.example/categories", "portal"), status="inactive", decision="deny")],
    )
    yield Form("no category", "R5", ANY, "hold", "nothing tells what it is about", [r5("c-1", decision="deny")])
    yield Form(
        "`59284-0` alone, denied",
        "R5",
        ANY,
        "hold",
        "it denies in general",
        [r5("c-1", concept(LOINC, "59284-0"), decision="deny")],
    )
    yield Form(
        "`59284-0` alone, inactive",
        "R5",
        ANY,
        "hold",
        "a general consent was ended",
        [r5("c-1", concept(LOINC, "59284-0"), status="inactive")],
    )
    yield Form(
        "category research, permitted", "R5", HL7, "permit", "to research", [r5("c-1", RESEARCH, policyBasis=BASIS)]
    )
    yield Form(
        "category research, denied", "R5", HL7, "deny", "a provision denies it", [r5("c-1", RESEARCH, decision="deny")]
    )
    yield Form("category research, inactive", "R5", HL7, "deny", "withdrawn", [r5("c-1", RESEARCH, status="inactive")])
    yield Form(
        "category `rsdid`, denied",
        "R5",
        HL7,
        "deny",
        "to research on de-identified data",
        [r5("c-1", concept(CATEGORIES, "rsdid"), decision="deny")],
    )
    yield Form(
        "scope patient-privacy, permitted",
        "R4",
        "HL7 FAST",
        "silent",
        "in general, and it permits",
        given("fast-consent"),
    )
    yield Form(
        "scope patient-privacy, ended",
        "R4",
        "HL7 FAST",
        "hold",
        "a general consent was ended",
        [r4(uri="urn:a:b", scope="patient-privacy", status="inactive", provision=provision("permit"))],
    )
    yield Form(
        "scope patient-privacy, all denied",
        "R4",
        "IHE PCF",
        "hold",
        "it denies in general",
        [r4(uri="urn:a:b", scope="patient-privacy", provision=provision("deny"))],
    )
    yield Form(
        "scope patient-privacy, all denied but treatment",
        "R4",
        "IHE PCF",
        "hold",
        "it denies in general",
        [r4(uri="urn:a:b", scope="patient-privacy", provision=below("deny", provision("permit", purposes=("TREAT",))))],
    )
    yield Form(
        "scope patient-privacy, denied to one organisation",
        "R4",
        HL7,
        "silent",
        "one actor is not all",
        [r4(uri="urn:a:b", scope="patient-privacy", provision=provision("deny", actor=[{"role": {"text": "x"}}]))],
    )
    yield Form(
        "scope patient-privacy, denied in 2020 and permitted in 2025",
        "R4",
        ANY,
        "silent",
        "the newer general one counts",
        [
            {
                **r4("old", uri="urn:a:b", scope="patient-privacy", provision=provision("deny")),
                "dateTime": "2020-01-01",
            },
            r4(uri="urn:a:b", scope="patient-privacy", provision=provision("permit")),
        ],
    )
    yield Form(
        "unreadable, scope patient-privacy, beside a withdrawal",
        "R4",
        HL7,
        "deny",
        "what is about other things holds nobody",
        given("withdrawal-and-unreadable-other"),
    )
    broken = below("permit", {"actor": [{"role": {"text": "x"}}]})

    for scope in ("patient-privacy", "treatment"):
        yield Form(
            f"unreadable, scope {scope}, beside a permit",
            "R4",
            HL7,
            "permit",
            "what is about other things holds nobody",
            [OLD, r4(uri="urn:a:b", scope=scope, provision=broken)],
        )

    yield Form(
        "unreadable, scope patient-privacy, names `MLTRAINING`",
        "R4",
        ANY,
        "hold",
        "it may deny this",
        [
            OLD,
            r4(
                uri="urn:a:b",
                scope="patient-privacy",
                provision=below("permit", {"purpose": [{"system": REASONS, "code": "MLTRAINING"}]}),
            ),
        ],
    )
    yield Form(
        "unreadable, scope research", "R4", ANY, "hold", "it may deny this", [OLD, r4(uri="urn:a:b", provision=broken)]
    )
    yield Form(
        "scope that is not known",
        "R4",
        ANY,
        "hold",
        "nothing tells what it is about",
        [OLD, r4(uri="urn:a:b", scope="new")],
    )
    yield Form(
        "consent to research without a provision",
        "R4",
        ANY,
        "hold",
        "nobody can tell what it says",
        [OLD, r4(uri="urn:a:b")],
    )


def _status() -> Iterator[Form]:
    for status, answer, why in (
        ("active", "permit", "it permits"),
        ("inactive", "deny", "withdrawn"),
        ("rejected", "deny", "refused"),
        ("entered-in-error", "hold", "no withdrawal"),
        ("draft", "silent", "no consent yet"),
        ("proposed", "silent", "no consent yet"),
        ("revoked", "hold", "not a status of FHIR"),
    ):
        yield Form(f"research, status {status}", "R4", ANY, answer, why, [r4(status=status, provision=WILLING)])

    for status, answer, why in (
        ("active", "permit", "it permits"),
        ("inactive", "deny", "withdrawn"),
        ("not-done", "hold", "not completed"),
        ("unknown", "hold", "nobody knows"),
        ("entered-in-error", "hold", "no withdrawal"),
        ("draft", "silent", "no consent yet"),
        ("rejected", "hold", "not a status of R5"),
    ):
        yield Form(
            f"research, status {status}",
            "R5",
            ANY,
            answer,
            why,
            [r5("c-1", RESEARCH, status=status, policyBasis=BASIS)],
        )

    yield Form(
        "research, inactive, nothing permitted in it",
        "R4",
        ANY,
        "hold",
        "a refusal that ended",
        [r4(uri="urn:a:b", status="inactive", provision=provision("deny", USE))],
    )
    yield Form(
        "withdrawal with a reference and an identifier",
        "R4",
        MII,
        "deny",
        "withdrawn in full",
        given("reference-and-identifier"),
    )
    yield Form("withdrawal without an id", "R4", ANY, "deny", "withdrawn in full", given("without-id"))


def _over() -> Iterator[Form]:
    over = {"start": "2024-01-01", "end": "2025-03-01"}
    yield Form(
        "research, all denied, period over",
        "R4",
        ANY,
        "hold",
        "whether a denial ends a person must say",
        [OLD, r4(uri="urn:a:b", provision=provision("deny", period=over))],
    )
    yield Form(
        "scope patient-privacy, no provision",
        "R4",
        ANY,
        "hold",
        "nobody can tell what it says",
        [OLD, r4(uri="urn:a:b", scope="patient-privacy")],
    )
    yield Form(
        "exception that names nothing",
        "R5",
        ANY,
        "hold",
        "it excepts everything",
        [OLD, r5("c-1", concept(LOINC, "59284-0"), provision=[{"period": {"start": "2024-01-01"}}])],
    )
    yield Form(
        "research, period over",
        "R4",
        ANY,
        "hold",
        "a permission that is over is no withdrawal",
        [r4(provision={**WILLING, "period": over})],
    )


def forms() -> list[Form]:
    """All rows."""
    made = (_broad_consent, _forms, _template_types, _written_elsewhere, _purposes, _other_matters, _status, _over)
    return [row for rows in made for row in rows()]


def table() -> str:
    """The rows as a table in Markdown, rows of one meaning once."""
    lines = ["| form | version | who writes it so | answer | why |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.form.replace('|', chr(92) + '|')} | {row.version} | {row.writer} | {row.answer} | {row.why} |"
        for row in forms()
    ]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
