from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from evidence_files import RevocationFields, UnlearningFields, a_revocation, an_unlearning

from common.errors import EvidenceError
from common.evidence import statement_parts, statements
from common.evidence.canonical import canonical
from common.evidence.commitment import check_commitment, commitment
from common.evidence.countersignature import claims_of
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.statement_parts import Decision, Method, Metric, ModelFile, Retention

D = "ab" * 32
FILES = (ModelFile("encoder.safetensors", D), ModelFile("head.safetensors", "cd" * 32))


def test_a_revocation_survives_and_is_an_in_toto_statement() -> None:
    payload = statements.revocation_statement(a_revocation())
    assert statements.read_revocation(payload) == a_revocation()
    value = json.loads(payload)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://fedforget.org/revocation/v1"
    assert value["subject"] == [{"name": "consent-document", "digest": {"hmacSha256": a_revocation().document}}]
    assert value["predicate"]["legalBasis"] == "GDPR 7(3)"


def test_an_unlearning_survives_and_is_an_in_toto_statement() -> None:
    payload = statements.unlearning_statement(FILES, an_unlearning())
    assert statements.read_unlearning(payload) == (FILES, an_unlearning())
    value = json.loads(payload)
    assert value["predicateType"] == "https://fedforget.org/unlearning/v1"
    assert [subject["digest"]["sha256"] for subject in value["subject"]] == [file.sha256 for file in FILES]
    assert value["predicate"]["metrics"][0]["value"] == "0.51"
    assert an_unlearning().parent == an_unlearning().lineage[1]


@pytest.mark.parametrize(
    "field",
    [
        {"document": "x"},
        {"request": ""},
        {"site": ""},
        {"legal_basis": ""},
        {"requester": ""},
        {"identity_check": ""},
        {"modalities": ()},
        {"modalities": ("reports", "images")},
        {"modalities": ("genomes",)},
        {"policies": ("b", "a")},
        {"received": "2026-11-02"},
        {"effective": "now"},
        {"due": "soon"},
        {"due": "2026-11-02T08:14:00Z"},
    ],
    ids=str,
)
def test_a_revocation_with_one_bad_field_cannot_be_made(field: RevocationFields) -> None:
    with pytest.raises(EvidenceError):
        a_revocation(**field)


@pytest.mark.parametrize(
    "field",
    [
        {"campaign": ""},
        {"issued": "2026-11-20"},
        {"revocations": ()},
        {"revocations": ("no digest",)},
        {"revocations": (D, D)},
        {"lineage": ()},
        {"lineage": ("no digest",)},
        {"metrics": ()},
        {"code": "v1.2"},
        {"limits": ()},
    ],
    ids=str,
)
def test_an_unlearning_with_one_bad_field_cannot_be_made(field: UnlearningFields) -> None:
    with pytest.raises(EvidenceError):
        an_unlearning(**field)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ModelFile("", D),
        lambda: ModelFile("m", "md5"),
        lambda: Method("", D, 1),
        lambda: Method("m", "config.toml", 1),
        lambda: Retention(-1, ("a",)),
        lambda: Retention(0, ("a",)),
        lambda: Retention(1, ()),
        lambda: Retention(1, ("b", "a")),
        lambda: Metric("", "0", "0", "1", "0.9", 5, "site"),
        lambda: Metric("auc", "half", "0", "1", "0.9", 5, "site"),
        lambda: Metric("auc", "0.5", "1", "0", "0.9", 5, "site"),
        lambda: Metric("auc", "0.5", "0", "1", "90", 5, "site"),
        lambda: Metric("auc", "0.5", "0", "1", "0.9", 0, "site"),
        lambda: Decision("accepted", ()),
        lambda: Checkpoint("", 1, D),
        lambda: Checkpoint("site", -1, D),
        lambda: Checkpoint("site", 0, D),
        lambda: Checkpoint("site", 1, "root"),
    ],
)
def test_a_part_with_one_bad_field_cannot_be_made(build: Callable[[], object]) -> None:
    with pytest.raises(EvidenceError):
        build()


def test_model_files_stand_in_order_and_at_least_one() -> None:
    for files in ((), tuple(reversed(FILES)), (FILES[0], FILES[0])):
        with pytest.raises(EvidenceError, match="subject"):
            statements.unlearning_statement(files, an_unlearning())


def test_a_statement_with_an_unknown_or_missing_field_is_refused() -> None:
    both = [
        (statements.revocation_statement(a_revocation()), statements.read_revocation),
        (statements.unlearning_statement(FILES, an_unlearning()), statements.read_unlearning),
    ]
    for payload, read in both:
        good = json.loads(payload)
        wrong = [
            {**good, "extra": 1},
            {**good, "_type": "https://in-toto.io/Statement/v0.1"},
            {**good, "predicateType": "https://fedforget.org/other/v1"},
            {**good, "subject": []},
            {**good, "subject": [{**good["subject"][0], "annotations": {}}, *good["subject"][1:]]},
            {**good, "subject": [{"name": "x", "digest": {"sha1": D}}]},
            {**good, "subject": ["x"]},
            {**good, "predicate": []},
            {**good, "predicate": {**good["predicate"], "extra": 1}},
            {**good, "predicate": {**good["predicate"], "document": D}},
            *({k: v for k, v in good.items() if k != gone} for gone in good),
            *(
                {**good, "predicate": {k: v for k, v in good["predicate"].items() if k != gone}}
                for gone in good["predicate"]
            ),
        ]
        for value in wrong:
            with pytest.raises(EvidenceError):
                read(canonical(value))

    with pytest.raises(EvidenceError):
        statements.read_revocation(b"[]")


def test_a_statement_of_another_version_says_so() -> None:
    payload = statements.unlearning_statement(FILES, an_unlearning())
    with pytest.raises(EvidenceError, match="not a statement of type"):
        statements.read_unlearning(payload.replace(b"Statement/v1", b"Statement/v2"))


def test_one_kind_of_statement_does_not_pass_for_the_other() -> None:
    with pytest.raises(EvidenceError, match="not a statement of type"):
        statements.read_unlearning(statements.revocation_statement(a_revocation()))


def test_a_commitment_opens_with_its_document_and_salt_alone() -> None:
    salt = bytes(32)
    # RFC 4231 has no case with a key of 32 zero bytes; computed with `openssl dgst -sha256 -mac HMAC`.
    expected = "0117b6f34a8921b5918eba2265117bdf2302de9fbcd08ef5559911210427c086"
    assert commitment(b"consent", salt) == expected
    check_commitment(b"consent", salt, expected)
    for document, other in ((b"consenT", salt), (b"consent", bytes(31) + b"\1")):
        with pytest.raises(EvidenceError, match="do not open"):
            check_commitment(document, other, expected)

    with pytest.raises(EvidenceError, match="31 bytes"):
        commitment(b"consent", bytes(31))


def test_a_statement_says_that_a_person_overruled_a_veto_and_only_then_has_the_field() -> None:
    overruled = statement_parts.Overruled("2026-11-20T09:00:00Z", "south's test set is broken", ("veto: south: worse",))
    payload = statements.unlearning_statement(FILES, an_unlearning(overruled=overruled))
    read = statements.read_unlearning(payload)[1]
    assert read.overruled == overruled
    assert any("OVERRULED BY A PERSON" in claim for claim in claims_of(read))
    assert b"overruled" not in statements.unlearning_statement(FILES, an_unlearning())
    for wrong in (("soon", "why", ("x",)), ("2026-11-20T09:00:00Z", "", ("x",)), ("2026-11-20T09:00:00Z", "why", ())):
        with pytest.raises(EvidenceError):
            statement_parts.Overruled(*wrong)
