"""Every place that shows how a campaign ended names the one outcome, and what it rests on; never another one."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from outcome_grounds import GROUNDS, QUALIFIED, RESTS_ON, RETRAINED, qualified
from rich.console import Console
from typer.testing import CliRunner

from client.account.letter.letter import Sender, Subject, compose, texts_of
from client.revocations.linkage.status import LinkageStatus
from client.revocations.revocation import RevocationStatus, Source, State
from common.errors import EvidenceError
from common.evidence import dsse, statement_parts, statements
from common.evidence.countersignature import claims_of
from common.evidence.examination import examine
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.outcomes.acceptance import Acceptance, accepted_by
from common.evidence.outcomes.grounds import PUBLISHED, Grounds, Outcome, unsupported
from common.evidence.outcomes.grounds_text import LABELS, label
from common.evidence.schema import decode, encode
from common.evidence.stand_alone import verifier_archive
from common.learning.model.checkpoint import ModelCard
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.verdict.judging import Verdict
from server.commands.campaign import app as campaign_app
from server.commands.models import app as models_app
from server.membership.setup import create_server
from server.registry.manifest import Provenance
from server.registry.model_card import model_card
from server.rounds.states import CampaignState
from simulations.reporting import page
from simulations.reporting.report import load_result, print_table, write_report
from simulations.result import Result

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Make = Callable[..., Result]


def names(text: str) -> set[str]:
    """The outcomes that a text names in the spelling of files, in backticks or quotes."""
    return {name for name in OUTCOMES if re.search(rf"[`'\"]{name}[`'\"]", text)}


def a_statement(
    outcome: Outcome, grounds: Grounds | None, method: str = "forget_mi_calibrated"
) -> statements.Unlearning:
    digest = hashlib.sha256(b"x").hexdigest()
    exact = outcome == "exact"
    return statements.Unlearning(
        campaign="7",
        issued="2026-11-20T10:00:00Z",
        revocations=(digest,),
        lineage=(digest,),
        method=statement_parts.Method("exact" if exact else method, digest, 3),
        retention=statement_parts.Retention(1, ("north",)),
        metrics=(statement_parts.Metric("revocations answered", "1", "1", "1", "0.95", 1, "site"),),
        figures=(),
        code=digest,
        decision=statement_parts.Decision(outcome, ("why",), "0.1", grounds),
        limits=("loss-based attacks only",),
        log=Checkpoint("coordinator", 5, digest),
        frozen=statement_parts.FrozenEncoders(digest, digest, digest, "1", "Dr. Frost, data protection")
        if exact
        else None,
    )


def signed(statement: statements.Unlearning, *keys: SigningKey) -> bytes:
    payload = statements.unlearning_statement((statement_parts.ModelFile("m", "ab" * 32),), statement)
    envelope = dsse.sign(statements.PAYLOAD_TYPE, payload, keys[0])
    for key in keys[1:]:
        envelope = dsse.add_signature(envelope, key)
    return dsse.encode_envelope(envelope)


@pytest.fixture
def house(tmp_path: Path) -> CoordinatorContext:
    root = tmp_path / "federation"
    create_server(root, ["localhost"], NOON)
    return open_house(root, lambda: NOON)


def ended(house: CoordinatorContext, outcome: Outcome, grounds: Grounds, step: str = "verdict") -> int:
    """A campaign that came to this outcome, as its journal records it."""
    terms = house.terms.model_dump(mode="json")
    number = house.store.plan("unlearning", terms, parent=None, due=None, reason="due")
    attempt = house.store.take_up(number)
    journal = house.store.journal(number, attempt)
    journal.enter(CampaignState.COLLECTING)
    journal.enter(CampaignState.RETRAINING if step != "verdict" else CampaignState.UNLEARNING)
    if step == "verdict":
        for state in (CampaignState.AGGREGATING, CampaignState.EVALUATING, CampaignState.DECIDING):
            journal.enter(state)
    journal.put(step, Verdict(outcome=outcome, reasons=("why",), vetoes=(), grounds=grounds))
    journal.enter(CampaignState.PUBLISHED if outcome in PUBLISHED else CampaignState(outcome), "why")

    return number


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_statement_and_its_verifiers_name_the_outcome_and_its_grounds(outcome: Outcome, tmp_path: Path) -> None:
    statement = a_statement(outcome, GROUNDS[outcome])
    site = SigningKey.generate()
    server = SigningKey.generate()
    data = signed(statement, site, server)
    _, again = statements.read_unlearning(dsse.decode_envelope(data).body)
    assert again == statement

    said = claims_of(statement)
    result = examine(data, PinnedKeys.of([("site", site.public), ("server", server.public)]))
    (grounds,) = [finding for finding in result.findings if finding.subject == "grounds"]
    for text in ("\n".join(said), "\n".join(result.claims), grounds.reason):
        assert names(text) == {outcome}
        assert RESTS_ON[outcome] in text
    assert result.holds

    (tmp_path / "verify.pyz").write_bytes(verifier_archive())
    (tmp_path / "a.json").write_bytes(data)
    for name, key in (("site", site), ("server", server)):
        (tmp_path / name).write_bytes(key.public.pem)
    command = [sys.executable, "verify.pyz", "a.json", "--key=site=site", "--key=server=server"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert names(shown) == {outcome}
    assert RESTS_ON[outcome] in shown
    as_json = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert names("\n".join(json.loads(as_json)["claims"])) == {outcome}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_coordinators_commands_name_the_outcome_and_its_grounds(
    outcome: Outcome, house: CoordinatorContext
) -> None:
    number = ended(house, outcome, GROUNDS[outcome])
    place = ("--dir", str(house.folder.root))
    shown = CliRunner().invoke(campaign_app, ["show", str(number), *place]).stdout
    assert names(shown) == {outcome}
    assert RESTS_ON[outcome][:30] in " ".join(re.sub(r"[│┃|]", " ", shown).split())
    found = json.loads(CliRunner().invoke(campaign_app, ["show", str(number), *place, "--json"]).stdout)
    assert found["outcome"] == outcome
    assert found["grounds"]["rung"] == GROUNDS[outcome].rung
    assert any(RESTS_ON[outcome] in line for line in found["acceptance"])
    (row,) = json.loads(CliRunner().invoke(campaign_app, ["list", *place, "--json"]).stdout)
    assert row["outcome"] == outcome
    assert re.search(rf"\b{outcome}\b", CliRunner().invoke(campaign_app, ["list", *place]).stdout)


@pytest.mark.parametrize("outcome", sorted(PUBLISHED))
def test_the_registry_and_the_model_card_name_the_outcome_and_its_grounds(
    outcome: Outcome, house: CoordinatorContext, card: ModelCard, tmp_path: Path
) -> None:
    facts = Provenance(
        round=1, run=None, code="1", config="c", sites=("north",), outcome=outcome, grounds=GROUNDS[outcome]
    )
    version = house.registry.publish(card.build(1).state_dict(), card, parent=None, campaign=None, provenance=facts)
    assert house.registry.get(version.name).manifest.provenance == facts
    text = model_card(version.manifest, card, (version.name,))
    assert names(text) == {outcome}
    assert RESTS_ON[outcome] in text
    exported = (house.registry.export(version.name, tmp_path / "out") / "README.md").read_text()
    assert names(exported) == {outcome}

    place = ("--dir", str(house.folder.root))
    found = json.loads(CliRunner().invoke(models_app, ["show", version.name, *place, "--json"]).stdout)
    assert (found["outcome"], found["grounds"]["rung"]) == (outcome, GROUNDS[outcome].rung)
    assert RESTS_ON[outcome] in found["rests_on"][0]
    assert names(CliRunner().invoke(models_app, ["show", version.name, *place]).stdout) == {outcome}
    (row,) = json.loads(CliRunner().invoke(models_app, ["list", *place, "--json"]).stdout)
    assert row["outcome"] == outcome


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_simulations_report_and_table_name_the_outcome_and_its_grounds(
    outcome: Outcome, make_result: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second each, and they name no outcome.
    monkeypatch.setattr(page, "_charts", lambda _: {})
    made = make_result(sites=2)
    decision = made.decision.model_copy(update={"outcome": outcome, "grounds": GROUNDS[outcome]})
    result = made.model_copy(update={"decision": decision})
    (tmp_path / "result.json").write_text(result.model_dump_json())
    assert load_result(tmp_path).decision == decision

    written = html.unescape(write_report(result, tmp_path).read_text())
    section = re.search(r'<section class="verdict ([a-z_]+)".*?</section>', written, re.DOTALL)
    assert section is not None
    assert section[1] == outcome
    badge = label(outcome, GROUNDS[outcome])
    assert f'<span class="badge">{badge}</span>' in section[0]
    assert RESTS_ON[outcome] in section[0]

    text = io.StringIO()
    print_table(result, Console(file=text, width=300))
    others = {label(other, GROUNDS[other]) for other in OUTCOMES} - {badge}
    assert badge in text.getvalue()
    assert RESTS_ON[outcome] in text.getvalue()
    assert not any(re.search(rf"^{other}  ", text.getvalue(), re.MULTILINE) for other in others)


def of_letter(seen: Acceptance | None, language: str) -> str:
    standing = RevocationStatus(
        number=1, receipt="3f9c", pseudonym="ab" * 32, source=Source("cli", "3f9c"), scope="all", policies=(),
        kind="withdrawal", legal_basis="GDPR 7(3)", requester="patient", identity_check="in person", steward="office",
        identity="", received=NOON, effective=NOON, recorded=NOON, due=NOON, state=State.UNLEARNED, since=NOON,
        reason="", remediation="unlearned", campaign=7, model="cd" * 32, steps=4,
    )  # fmt: skip
    subject = Subject(standing, (), LinkageStatus("not-linked"), seen)
    return html.unescape(compose(subject, Sender(), "de" if language == "de" else "en", NOON, UTC))


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("outcome", sorted(PUBLISHED))
def test_a_letter_says_what_the_outcome_rests_on_and_never_what_another_does(outcome: Outcome, language: str) -> None:
    page = of_letter(accepted_by(a_statement(outcome, GROUNDS[outcome])), language)
    texts = texts_of("de" if language == "de" else "en")["done"]
    own = {"exact": texts["exact"], "accepted_qualified": texts["qualified"].format(rehearsals=40)}
    for name, sentence in own.items():
        assert (sentence in page) == (name == outcome)


def test_a_retrained_model_is_never_called_accepted_on_its_own_evidence(house: CoordinatorContext) -> None:
    said = "\n".join(claims_of(a_statement("accepted", RETRAINED, "retrained")))
    assert "Accepted after retraining (`accepted`)" in said
    assert "rests on: training from new weights without the patients" in said
    assert "not by own evidence: too few patients to decide" in said
    assert "the rule accepts a model" not in said

    number = ended(house, "accepted", RETRAINED, "verdict:retrained")
    found = json.loads(
        CliRunner().invoke(campaign_app, ["show", str(number), "--dir", str(house.folder.root), "--json"]).stdout
    )
    assert found["decision"] == "Accepted after retraining (`accepted`)"
    assert found["acceptance"][0] == "rests on: training from new weights without the patients"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_label_is_used_twice(outcome: Outcome) -> None:
    shown = [label(name, GROUNDS[name]) for name in OUTCOMES]
    assert shown.count(label(outcome, GROUNDS[outcome])) == 1
    assert LABELS.keys() == set(OUTCOMES)


@pytest.mark.parametrize(
    ("outcome", "grounds"),
    [
        ("exact", None),
        ("accepted_qualified", None),
        ("accepted_qualified", GROUNDS["accepted"]),
        ("accepted", GROUNDS["accepted_qualified"]),
        ("accepted", GROUNDS["exact"]),
        ("exact", GROUNDS["accepted"]),
        ("exact", RETRAINED),
    ],
)
def test_an_outcome_is_not_stated_on_the_grounds_of_another(outcome: Outcome, grounds: Grounds | None) -> None:
    with pytest.raises(EvidenceError):
        statement_parts.Decision(outcome, ("why",), "0.1", grounds)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"conformity": "0.05"}, "does not conform"),
        ({"valid_until": "2026-11-20T09:59:59Z"}, "the qualification ended"),
        ({"margin": "0.05"}, "fused, text"),
        ({"differences": QUALIFIED.differences[1:]}, "fused"),
        ({"criteria": QUALIFIED.criteria[:4]}, "Q5"),
        ({"criteria": (replace(QUALIFIED.criteria[0], holds=False), *QUALIFIED.criteria[1:])}, "Q1"),
    ],
)
def test_a_verifier_refuses_grounds_that_do_not_carry_their_outcome(changes: dict[str, object], fault: str) -> None:
    key = SigningKey.generate()
    grounds = qualified(**changes)
    data = signed(a_statement("accepted_qualified", grounds), key)
    result = examine(data, PinnedKeys.of([("site", key.public)]), {"site": 1})
    (finding,) = [one for one in result.findings if one.subject == "grounds"]
    assert not result.holds
    assert fault in finding.reason
    assert unsupported("accepted_qualified", GROUNDS["accepted_qualified"], "2026-11-20T10:00:00Z") is None


def test_more_patients_than_were_rehearsed_are_not_covered() -> None:
    grounds = replace(GROUNDS["accepted_qualified"], patients=6)
    found = unsupported("accepted_qualified", grounds, "2026-11-20T10:00:00Z")
    assert found == "the campaign forgot 6 patients, the qualification covers 5"


def test_statements_and_manifests_of_before_grounds_read_as_they_did() -> None:
    old = a_statement("accepted", None)
    assert b"grounds" not in encode(old.decision)
    assert decode(statement_parts.Decision, encode(old.decision)) == old.decision
    seen = accepted_by(old)
    assert seen is not None
    assert seen.lines[0].startswith("the rule accepts a model if")
    bare = Provenance.model_validate({"round": 1, "run": None, "code": "1", "config": "c", "sites": ["north"]})
    assert (bare.outcome, bare.grounds) == (None, None)
    assert Verdict.model_validate({"outcome": "accepted", "reasons": ["x"], "vetoes": []}).publishes
    assert json.loads(json.dumps(asdict(GROUNDS["exact"])))["trained_again"] == ["classifier", "image head"]
