"""The desk of a hospital: from a letter to a receipt, a second person, doubts, opt-outs, and what is kept on record."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Any

import pytest
from console_attacks import check_addresses, check_forms_from_elsewhere, check_headers, check_roles
from sqlalchemy import select

from client.evidence.console_events import ConsoleEventRow
from client.evidence.event_log import SiteLog
from client.revocations.workflow import decisions
from client.runtime.up import children, ports_of
from client.settings import SiteFolder
from common.errors import UnavailableError
from common.platform.actor import Actor
from common.platform.console.settings import ConsoleConfig
from common.platform.sql import reading

from .conftest import PATIENTS, SECRET, SiteWorld

PDF = b"%PDF-1.7 signed letter"


def text(page: str) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_a_letter_becomes_a_receipt_and_a_second_person_lets_it_be_forgotten(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    page = site.look(steward, "MRN-1001")
    assert "All use of 1 patient stops at once" in text(page)
    assert "rounds and" in text(page)
    receipt = site.confirm(steward)
    assert "Use has stopped" in steward.page
    assert "Waits for approval" in steward.get(f"/cases/{receipt}")
    approver = site.signed_in("weber", "approver")
    assert f'value="{receipt}"' in approver.get("/approvals")
    assert "1 receipt approved" in approver.post("/approvals", receipt=receipt)
    assert "Waits for a campaign" in approver.get(f"/cases/{receipt}")
    with reading(site.ledger.engine) as session:
        kinds = [row.kind for row in session.scalars(select(ConsoleEventRow))]
    assert kinds == ["signed-in", "signed-in"]


def test_who_recorded_cannot_approve_even_with_both_roles_and_another_name(site: SiteWorld) -> None:
    both = site.signed_in("lee", "steward", "approver")
    receipt = site.register(both, "MRN-1001")
    page = both.get("/approvals")
    assert "recorded by you" in page
    assert f'value="{receipt}"' not in page
    page = both.get(f"/cases/{receipt}")
    assert "You recorded this: a second person must approve it." in page
    assert f"/cases/{receipt}/approve" not in page
    page = both.post(f"/cases/{receipt}/approve", status=409)
    assert "a second person must approve" in text(page)
    site.rename_all("Somebody Else")
    both = site.signed_in("lee")
    both.get(f"/cases/{receipt}")
    assert "a second person must approve" in text(both.post(f"/cases/{receipt}/approve", status=409))


def test_two_people_of_the_same_name_are_two_people(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1001")
    site.account("weber", ["approver"])
    site.rename_all("Anna Lee")
    approver = site.signed_in("weber")
    approver.get(f"/cases/{receipt}")
    assert "Approved" in text(approver.post(f"/cases/{receipt}/approve"))


def test_an_approval_asks_for_a_fresh_sign_in(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1001")
    approver = site.signed_in("weber", "approver")
    site.clock.move(minutes=6)
    approver.get(f"/cases/{receipt}")
    assert "Sign in again" in approver.post(f"/cases/{receipt}/approve")
    assert "Waits for approval" in approver.get(f"/cases/{receipt}")


def test_a_look_alike_is_asked_about_before_anything_is_recorded(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    page = site.look(steward, "MRN-01002")
    assert "Who is meant?" in page
    assert "MRN-1002" in page
    receipt = site.confirm(steward, **{"meant-0": "0"})
    assert "Waits for approval" in steward.get(f"/cases/{receipt}")
    assert "Nothing is in doubt" in steward.get("/doubtful")


def test_an_unsure_answer_stops_everybody_and_waits_among_the_doubtful(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    site.look(steward, "MRN-01002")
    receipt = site.confirm(steward, **{"meant-0": "unsure"})
    page = steward.get("/doubtful")
    assert receipt in page
    assert SECRET not in page
    number = re.findall(r'action="/doubtful/([^"]+)"', page)[0]
    assert "Choose why" in steward.post(f"/doubtful/{number}", status=400, purpose="")
    page = steward.post(f"/doubtful/{number}", purpose="decide")
    assert "MRN-1002" in page
    meant = re.findall(r'name="meant" value="(\d+)"', page)[0]
    assert "Your answer is recorded" in steward.post(
        f"/doubtful/{number}/answer", meant=meant, reason="same birth date"
    )
    assert "Nothing is in doubt" in steward.get("/doubtful")


def test_identities_are_shown_with_a_purpose_only_and_every_look_is_in_the_log(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1003")
    assert SECRET not in steward.get(f"/cases/{receipt}")
    steward.post(f"/cases/{receipt}/who", status=400, purpose="")
    steward.get(f"/cases/{receipt}")
    assert "MRN-1003" in steward.post(f"/cases/{receipt}/who", purpose="check")
    steward.get("/find")
    page = steward.post("/find", patient="MRN-1003", purpose="answer")
    assert receipt in page
    assert "has stopped" in page
    log = SiteLog(site.folder, site.ledger.engine, site.clock)
    log.follow()
    with log.session() as session:
        documents = [item.document.decode() for item in log.log.vault(session, "console:")]
    assert not log.follow()
    assert [kind for kind in ("patient-viewed", "patient-asked", "signed-in") if any(kind in d for d in documents)]
    assert any('"purpose":"check"' in d and receipt in d for d in documents)
    assert any('"kind":"patient-asked"' in d and '"purpose":"answer"' in d for d in documents)
    assert not any(SECRET in d for d in documents)


def test_if_the_record_cannot_be_kept_nothing_is_shown(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1003")
    steward.get(f"/cases/{receipt}")

    def fails(*_: object) -> None:
        raise UnavailableError("the database is in use")

    monkeypatch.setattr("client.console.desk.add_event", fails)
    assert SECRET not in steward.post(f"/cases/{receipt}/who", status=503, purpose="check")


@pytest.mark.parametrize("field", ["reason", "comment"])
def test_a_text_that_names_a_patient_is_refused(site: SiteWorld, field: str) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1003")
    steward.get(f"/cases/{receipt}")
    path = "comments" if field == "comment" else "hold"
    naming: dict[str, Any] = {field: "wrong form of MRN-1005."}
    page = steward.post(f"/cases/{receipt}/{path}", status=400, **naming)
    assert "names a patient" in page
    steward.get(f"/cases/{receipt}")
    naming_nobody: dict[str, Any] = {field: "wrong form <b>of</b> 2026"}
    steward.post(f"/cases/{receipt}/{path}", **naming_nobody)
    page = steward.get(f"/cases/{receipt}")
    assert "wrong form &lt;b&gt;of&lt;/b&gt; 2026" in page


def test_a_case_is_held_released_extended_and_refused(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1004")
    path = f"/cases/{receipt}"
    steward.get(path)
    steward.post(f"{path}/hold", reason="page missing")
    assert "On hold" in steward.page
    steward.post(f"{path}/release", reason="page came")
    assert "Waits for approval" in steward.page
    until = site.clock.now.replace(year=site.clock.now.year + 1).date().isoformat()
    assert "two further months" in steward.post(f"{path}/extend", status=409, until=until, reason="no campaign")
    steward.get(path)
    assert "a date like" in steward.post(f"{path}/extend", status=400, until="soon", reason="no campaign")
    steward.get(path)
    steward.post(f"{path}/keep", code="legal-claims", keeps="locked-copy", reason="a case is pending")
    assert "17(3)(e)" in steward.page
    assert "no such reason code" in steward.post(
        f"{path}/keep", status=400, code="x", keeps="locked-copy", reason="why"
    )
    steward.get(path)
    assert "limits erasure" in steward.post(f"{path}/refuse", status=409, code="research", reason="why")
    steward.get(path)
    steward.post(f"{path}/refuse", reason="sent to the wrong hospital")
    page = text(steward.get(path))
    assert "Refused" in page
    assert "sent to the wrong hospital" in page
    assert page.count("console user lee") == 4


def test_the_scanned_letter_is_kept_in_the_vault_and_opened_with_a_purpose(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    steward.get("/register")
    day = site.clock().date().isoformat()
    fields: dict[str, Any] = {
        "patients": "MRN-1005",
        "received": day,
        "kind": "erasure",
        "scope": "images",
        "requester": "guardian",
    }
    fields |= {"identity_check": "identity card"}
    bad = {"form": ("a.pdf", b"<html><script>alert(1)</script>")}
    assert "must be a PDF" in steward.post("/register", status=400, files=bad, **fields)
    steward.post("/register", files={"form": ("../../etc/passwd", PDF)}, **fields)
    receipt = site.confirm(steward)
    steward.get(f"/cases/{receipt}")
    answer = steward.send(f"/cases/{receipt}/form", purpose="check")
    assert answer.content == PDF
    assert answer.headers["content-disposition"] == f'attachment; filename="form-{receipt}.pdf"'


def test_an_opt_out_is_taken_back_with_a_form(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1006", kind="opt-out")
    assert receipt in steward.get("/opt-outs")
    path = f"/cases/{receipt}"
    steward.get(path)
    steward.post(f"{path}/readmit", status=400, reason="wants to take part again")
    steward.get(path)
    steward.post(f"{path}/readmit", reason="wants to take part again", files={"form": ("f.pdf", PDF)})
    assert "Takes part again" in steward.get(path)


def test_one_patient_of_a_list_takes_part_again_and_the_others_stay_stopped(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1004", "MRN-1005", "MRN-1006", kind="opt-out")
    path = f"/cases/{receipt}/readmit"
    form = {"form": ("f.pdf", PDF)}

    def refused(patient: str) -> str:
        steward.get(f"/cases/{receipt}")
        return steward.post(path, status=400, reason="signed again", patient=patient, files=form)

    assert 'name="patient"' in steward.get(f"/cases/{receipt}")
    assert "covers several patients" in refused("")
    assert "resembles one" in refused("MRN 1005")
    assert "no revocation under this receipt" in refused("MRN-1001")
    assert "no revocation under this receipt" in refused("stranger")
    assert all(map(site.ledger.is_stopped, ("MRN-1004", "MRN-1005", "MRN-1006")))

    for patient in ("MRN-1005", "MRN-1006"):
        steward.get(f"/cases/{receipt}")
        steward.post(path, reason="signed again", patient=patient, files=form)
        assert "from the next campaign" in steward.page
        assert patient not in steward.page
        assert not site.ledger.is_stopped(patient)
    assert site.ledger.is_stopped("MRN-1004")


def test_a_receipt_is_taken_back_and_another_one_still_stops_use(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    site.register(steward, "MRN-1006")
    receipt = site.register(steward, "MRN-1006", "MRN-1007", kind="opt-out")
    site.register(steward, "MRN-1007")
    steward.get(f"/cases/{receipt}")
    steward.post(f"/cases/{receipt}/readmit", reason="again", patient="MRN-1007", files={"form": ("f.pdf", PDF)})
    assert "another one still stops use" in steward.page
    assert site.ledger.is_stopped("MRN-1007")


def test_the_queue_filters_sorts_pages_and_acts_on_many(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipts = [site.register(steward, f"MRN-100{n}") for n in range(4)]
    page = steward.get("/queue?sort=-received")
    assert all(receipt in page for receipt in receipts)
    assert "4 rows" in page
    assert receipts[0] in steward.get(f"/queue?text={receipts[0][:8]}")
    assert receipts[1] not in steward.get(f"/queue?text={receipts[0][:12]}")
    steward.get("/queue")
    steward.post("/queue", receipt=receipts[:3], step="hold", reason="letters are being checked")
    assert "3 receipts changed" in steward.page
    assert "3 rows" in steward.get("/queue?state=on-hold")
    for strange in (
        "?state=<script>",
        "?sort=receipts;drop",
        "?page=-1",
        "?page=999999999999",
        "?kind='--",
        "?text=%25",
    ):
        steward.get(f"/queue{strange}")


def test_today_says_what_needs_somebody_and_follows_the_ledger(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    assert "Nobody waits for an answer" in steward.get("/")
    receipt = site.register(steward, "MRN-1001")
    assert receipt in steward.get("/today/part")
    decisions.hold(site.ledger, receipt, Actor("by command line", "user:1000:kim"), "checked elsewhere")
    assert re.search(r"On hold</a></h2>\s*<span class=\"figure\">1<", steward.get("/today/part"))
    site.clock.move(days=40)
    steward = site.signed_in("lee")
    assert re.search(r"Overdue</a></h2>\s*<span class=\"figure\">1<", steward.get("/"))


def test_a_letter_is_a_pdf_that_names_nobody(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1009")
    steward.get(f"/cases/{receipt}")
    answer = steward.client.get(f"/cases/{receipt}/letter?language=de")
    assert answer.content.startswith(b"%PDF-1.")
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", answer.content, re.DOTALL)
    assert any(b"pdfuaid" in _inflated(stream) for stream in streams)
    letter = steward.client.get(f"/cases/{receipt}/letter?format=text").text
    assert receipt in letter
    assert SECRET not in letter


def test_it_invites_changes_and_disables_but_never_its_own_account(site: SiteWorld) -> None:
    it = site.signed_in("root", "it")
    site.account("lee", ["steward"])
    page = it.get("/people")
    (own,) = {account.subject for account in site.accounts.listed() if account.name == "root"}
    (lee,) = {account.subject for account in site.accounts.listed() if account.name == "lee"}
    assert f"/people/{lee}/roles" in page
    assert f"/people/{own}/roles" not in page
    token = re.findall(r'shown-once">([^<]+)<', it.post("/people/invite", role=["steward", "approver"]))[0]
    assert site.accounts.invitation(token, site.clock()) is not None
    it.get("/people")
    assert "your own account" in it.post(f"/people/{own}/roles", status=409, role="steward")
    steward = site.signed_in("lee")
    it.get("/people")
    it.post(f"/people/{lee}/roles", role="auditor")
    assert steward.client.get("/", follow_redirects=False).status_code == 303
    it.get("/people")
    it.post(f"/people/{lee}/disable")
    assert "disabled" in it.page
    steward.get("/sign-in")


def test_it_approves_code_and_reads_settings(site: SiteWorld) -> None:
    it = site.signed_in("root", "it")
    it.get("/code")
    it.post("/code", digest="9f" * 32, step="approve")
    assert "9f" * 32 in it.get("/code")
    assert site.folder.settings().approved_bundles == ("9f" * 32,)
    it.post("/code", status=400, digest="../../x", step="approve")
    assert "two_person_approval true" in text(it.get("/settings"))
    assert "days_to_answer –" in text(it.page)
    assert "heartbeat_seconds 60 " in text(it.page)


def test_the_evidence_needs_no_key_and_holds_the_record_and_the_verifier(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward")
    receipt = site.register(steward, "MRN-1001")
    log = SiteLog(site.folder, site.ledger.engine, site.clock)
    log.follow()
    site.folder.coordinator_key.parent.mkdir(exist_ok=True)
    site.folder.coordinator_key.write_bytes(log.key().public.pem)
    site.folder.signing_key.unlink()
    content = steward.client.get(f"/cases/{receipt}/evidence").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())
        assert {"record.json", "site.pub", "server.pub", "keys.json", "verify.pyz", "README.txt"} <= names
        assert not any(SECRET.encode() in archive.read(name) for name in names if not name.endswith(".pyz"))


def test_every_route_admits_exactly_its_roles(site: SiteWorld) -> None:
    roles = ("steward", "approver", "auditor", "it")
    browsers = {role: site.signed_in(role, role) for role in roles}
    receipt = site.register(browsers["steward"], "MRN-1007")
    admitted = check_roles(site, browsers, {"receipt": receipt, "number": "none", "subject": "none"})

    assert admitted["POST /approvals"] == {"approver"}
    assert admitted["POST /register/confirm"] == {"steward"}
    assert admitted["POST /people/invite"] == {"it"}
    assert admitted["GET /find"] == {"steward", "auditor"}
    assert admitted["GET /code"] == {"it", "auditor"}


def test_no_form_is_taken_from_elsewhere_and_no_address_leads_outside(site: SiteWorld) -> None:
    everybody = site.signed_in("lee", "steward", "approver", "auditor", "it")
    receipt = site.register(everybody, "MRN-1007")
    values = {"receipt": receipt, "number": "none", "subject": "none"}
    assert check_forms_from_elsewhere(site, everybody, values) >= 25
    assert "Waits for approval" in everybody.get(f"/cases/{receipt}")
    assert check_addresses(site, everybody) >= 20
    assert check_headers(site, everybody, values) >= 20
    path = f"/cases/{receipt}/letter"
    for strange in ("?language=../../site.toml", "?format=../site", "?language=de%00"):
        letter = everybody.client.get(path + strange)
        assert letter.headers["content-disposition"] == f'attachment; filename="letter-{receipt}.pdf"'


def test_no_page_of_a_signed_in_person_shows_an_identifier_unasked(site: SiteWorld) -> None:
    steward = site.signed_in("lee", "steward", "approver", "auditor", "it")
    receipt = site.register(steward, "MRN-1001")
    site.look(steward, "MRN-01002")
    site.confirm(steward, **{"meant-0": "unsure"})

    for page in site.console.pages:
        if page.method == "GET" and not page.is_public and page.path != "/live":
            answer = steward.client.get(page.path.replace("{receipt}", receipt))
            assert not any(patient.encode() in answer.content for patient in PATIENTS), page.path


def test_pages_speak_german_and_french(site: SiteWorld) -> None:
    for language, word in (("de", "Heute"), ("fr", "Aujourd’hui")):
        browser = site.signed_in(f"lee-{language}", "steward")
        browser.client.headers["accept-language"] = f"{language}-CH,{language};q=0.9"
        page = browser.get("/")
        assert f'<html lang="{language}"' in page
        assert word in page


def test_up_runs_the_console_where_it_is_enabled_and_the_doctor_looks_at_its_port(folder: SiteFolder) -> None:
    settings = folder.settings()
    (console,) = (child for child in children(folder, settings) if child.name == "console")
    assert console.argv[-4:] == ("-m", "client.console", "--dir", str(folder.root.resolve()))
    assert console.ready is not None
    assert any(port.name == "console" and port.number == settings.console.port for port in ports_of(settings))
    off = settings.model_copy(update={"console": ConsoleConfig()})
    assert "console" not in {child.name for child in children(folder, off)}
    assert ConsoleConfig().port not in {port.number for port in ports_of(off)}


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream
