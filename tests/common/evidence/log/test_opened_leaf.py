"""A leaf that was opened for an auditor: what it says, and that nothing of it can be changed."""

from __future__ import annotations

from typing import Any

import pytest

from common.evidence.canonical import Json, canonical
from common.evidence.commitment import commitment
from common.evidence.findings import Finding, Outcome
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log.log_checkpoint import cosign, sign_checkpoint
from common.evidence.log.opened_leaf import in_words, leaf_finding, open_leaf
from common.evidence.log.tree_log import Entry, Log, append
from common.evidence.schema import encode

SALT = bytes(range(32))
PURGED: Json = {"pixels": 12, "references": 3, "studies": 6, "working": 0}
CLOSED: Json = {"access": "closed", "campaign": 7, "purged": PURGED}


def opened(site: SigningKey, server: SigningKey | None, document: Json) -> bytes:
    data = canonical(document)
    log = Log("site:north")
    leaves = []

    for number in range(5):
        text, kind = (data, "access-closed") if number == 2 else (b"%d" % number, "audited")
        log, leaf = append(log, Entry(commitment(text, SALT), kind, "2026-11-20T09:00:00Z"))
        leaves.append(leaf)

    checkpoint = sign_checkpoint(log.checkpoint, site)
    if server is not None:
        checkpoint = cosign(checkpoint, server, PinnedKeys.of([("site", site.public)]), "site", None, ())
    return encode(open_leaf(checkpoint, leaves, 2, data, SALT))


def examined(evidence: Any, data: bytes, campaign: str = "7") -> Finding:
    return leaf_finding(data, evidence.pinned, campaign, "opened leaf 1")


def test_an_opened_leaf_says_in_plain_words_what_was_deleted(evidence: Any) -> None:
    found = examined(evidence, opened(evidence.site, evidence.server, CLOSED))
    assert found.outcome is Outcome.HOLDS
    assert found.reason == (
        "leaf 2 of log 'site:north', written 2026-11-20T09:00:00Z, signed by server, site: campaign 7 may no longer "
        "read patients who have revoked; deleted: 12 decoded images, 6 studies with their reports and tokens, 3 files "
        "of scores of reference models, 0 sets of weights between two steps"
    )


def test_a_leaf_that_was_written_before_counts_were_kept_still_holds_and_says_that_it_lacks_them(evidence: Any) -> None:
    found = examined(evidence, opened(evidence.site, evidence.server, {"access": "closed", "campaign": 7}))
    assert found.outcome is Outcome.HOLDS
    assert found.reason.endswith("deletions are not recorded, as in logs of earlier releases")


def test_other_leaves_are_said_by_their_kind_and_counts_of_later_releases_by_their_name() -> None:
    assert in_words("access-opened", {"campaign": 7, "patients": 2}).startswith("campaign 7 may read 2 patient(s)")
    assert in_words("audited", {"campaign": 7}) == "audited"
    assert in_words("access-closed", {"campaign": 7, "purged": {"pixels": 1, "thumbnails": 4}}).endswith(
        "deleted: 1 decoded images, 4 thumbnails"
    )


@pytest.mark.parametrize(
    ("campaign", "alone", "says"),
    [("8", False, "about campaign 7, but the attestation is about 8"), ("7", True, "signed by site alone")],
)
def test_a_leaf_of_another_campaign_or_under_one_partys_checkpoint_does_not_hold(
    evidence: Any, campaign: str, alone: bool, says: str
) -> None:
    found = examined(evidence, opened(evidence.site, None if alone else evidence.server, CLOSED), campaign)
    assert found.outcome is Outcome.FAILS
    assert says in found.reason


def test_every_changed_byte_of_an_opened_leaf_is_caught(evidence: Any) -> None:
    data = opened(evidence.site, evidence.server, CLOSED)
    assert examined(evidence, data).outcome is Outcome.HOLDS
    for index in range(len(data)):
        changed = bytes([*data[:index], data[index] ^ 1, *data[index + 1 :]])
        assert examined(evidence, changed).outcome is Outcome.FAILS, f"byte {index}"


def test_another_document_under_the_same_leaf_does_not_hold(evidence: Any) -> None:
    data = opened(evidence.site, evidence.server, CLOSED)
    fewer = data.replace(rb"\"pixels\":12", rb"\"pixels\":99")
    assert fewer != data
    assert examined(evidence, fewer).outcome is Outcome.FAILS
