from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.revocations.ledger_queries import now_utc
from client.revocations.linkage.tokens import make_tokens, mark_told, read_linkage, untold
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.settings import SiteFolder
from common.files import write_private


@pytest.fixture
def hospital(site_folder: Path, enrol: Callable[[Path, str], Path], secret: str) -> Path:
    folder = enrol(site_folder, "north")
    with open_ledger(SiteFolder(folder)) as ledger:
        for receipt, numbers in {"aaaaaaaa": (0,), "bbbbbbbb": (1, 6)}.items():
            request = Request(Source("cli", receipt), receipt, now_utc())
            ledger.record(request, [f"{secret}-{number}" for number in numbers])

    return folder


def run(hospital: Path, *arguments: object) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["letter", *map(str, arguments), "--dir", str(hospital), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output


def test_a_letter_is_written_in_the_language_asked_for(hospital: Path, secret: str, tmp_path: Path) -> None:
    out = tmp_path / "letter.html"
    assert run(hospital, "aaaaaaaa", "--out", out) == (
        0,
        {"file": str(out), "state": "pending", "outcome": None, "language": "en", "contact": False},
    )
    assert "What we have done" in out.read_text()
    assert run(hospital, "aaaaaaaa", "--out", out, "--language", "de")[0] == 0
    assert "Was wir getan haben" in out.read_text()
    assert secret not in out.read_text()
    assert run(hospital, "aaaaaaaa", "--out", out, "--language", "fr")[0] == 0
    assert "Ce que nous avons fait" in out.read_text()
    assert run(hospital, "aaaaaaaa", "--out", out, "--format", "pdf")[0] == 0
    assert out.read_bytes().startswith(b"%PDF-1.7")
    assert run(hospital, "aaaaaaaa", "--out", out, "--format", "text")[0] == 0
    assert "\nWhat we have done\n\n- We stopped" in out.read_text()
    assert "<" not in out.read_text()


def test_the_settings_say_who_writes_and_in_which_language(hospital: Path, tmp_path: Path) -> None:
    with (hospital / "site.toml").open("a") as file:
        file.write('[letter]\nsender = "Klinik Nord"\ncontact = "Frau Beispiel"\nlanguage = "de"\n')
    out = tmp_path / "letter.html"
    assert run(hospital, "aaaaaaaa", "--out", out)[1]["language"] == "de"
    assert "Klinik Nord" in out.read_text()
    assert "Frau Beispiel" in out.read_text()


def test_patients_of_a_receipt_who_stand_differently_are_told_apart_by_one_id(
    hospital: Path, secret: str, tmp_path: Path
) -> None:
    out = tmp_path / "letter.html"
    ids = tmp_path / "ids"
    code, output = run(hospital, "bbbbbbbb", "--out", out)
    assert (code, "are in different states" in output) == (2, True)
    assert not out.exists()
    ids.write_text(f"{secret}-1\n{secret}-6\n")
    assert run(hospital, "bbbbbbbb", "--out", out, "--patient-file", ids)[0] == 2
    ids.write_text(f"{secret}-0\n")
    assert run(hospital, "bbbbbbbb", "--out", out, "--patient-file", ids)[0] == 2
    states = []

    for number in (1, 6):
        ids.write_text(f"{secret}-{number}\n")
        code, said = run(hospital, "bbbbbbbb", "--out", out, "--patient-file", ids)
        assert code == 0
        states.append(said["state"])
        assert secret not in json.dumps(said) + out.read_text()

    assert states == ["pending", "evaluation-only"]


def test_a_receipt_that_is_none_gets_no_letter(hospital: Path, tmp_path: Path) -> None:
    assert run(hospital, "cccccccc", "--out", tmp_path / "letter.html")[0] == 2
    assert not (tmp_path / "letter.html").exists()


def test_a_letter_says_what_other_hospitals_were_told(hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "letter.html"
    run(hospital, "aaaaaaaa", "--out", out)
    assert "We have not told other hospitals." in out.read_text()
    write_private(hospital / "secrets" / "linkage", bytes(32))
    with (hospital / "site.toml").open("a") as file:
        file.write('[linkage]\nkeys = { one = "secrets/linkage" }\n')
    assert run(hospital, "aaaaaaaa", "--out", out)[0] == 0
    assert "have not been told yet" in out.read_text()
    with open_ledger(SiteFolder(hospital)) as ledger:
        make_tokens(ledger, read_linkage(SiteFolder(hospital)))  # type: ignore[arg-type]  # it has a key
        mark_told(ledger, untold(ledger, 10), others=3)

    assert run(hospital, "aaaaaaaa", "--out", out)[0] == 0
    assert "(3 at present)" in out.read_text()
