"""The support bundle of a hospital that is full of identifiers, names, addresses and keys."""

from __future__ import annotations

import json
import logging
import re
import stat
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from client.cli import app
from client.cohort.site_files import write_site
from client.settings import SiteFolder
from common.learning.data.splits import split_cohort
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Study
from common.platform.processes.log_filter import withhold_unknown
from common.platform.processes.process_log import ProcessLog
from common.platform.processes.structured_log import JsonFormatter
from common.platform.support.redaction import WITHHELD, Redaction

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PATIENTS = ("M-4711-MUELLER", "0815", "patient", "10003412", "Käthe", "revocations", "2024-03-17", "training")
"""One of each kind; three are ordinary words of our own messages, or look like a count or a date."""
ELSEWHERE = (
    *("ehr-42|998877", "urn:oid:1.2.276.0.76|A123", "Patient/fhir-5566", "withdrawal-of-ANNA-SCHMIDT.json"),
    *("Prof. Dr. Sauerbruch", "steward@charite.example", "ehr.charite.example", "10.20.30.40", "hunter2-proxy"),
    *("postgresql+pg8000", "s3cret-database", "3f9c1a5b7d2e4860", "deadbeef" * 8, "SMART-client-77", "+49 30 450 50"),
)
"""Identifiers of FHIR, file names, people, addresses, passwords, a receipt and a digest."""


@pytest.fixture
def folder(
    tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort], enrol: Callable[[Path, str], Path]
) -> SiteFolder:
    """A hospital that has joined, with the identifiers in its register, inbox, map, settings, ledger and logs."""
    plain = cohort_of(len(PATIENTS), studies=1)
    names = dict(zip(plain.patients, PATIENTS, strict=True))
    studies = []
    for study in plain.studies:
        name = names[study.patient]
        image = study.image.with_name(f"{name}.png")
        image.write_bytes(study.image.read_bytes())
        studies.append(Study(name, f"S-{name}", image, f"{name} has clear lungs", study.label, site="north"))
    cohort = Cohort(tuple(studies), card.classes)

    (tmp_path / "simulated").mkdir()
    split = split_cohort(cohort, card.data.split, seed=0)
    write_site(
        tmp_path / "simulated", cohort, split, card, name="north", seed=0, device="cpu", cache=tmp_path / "cache"
    )
    site = SiteFolder(enrol(tmp_path / "simulated", "north"))

    site.inbox.mkdir()
    (site.inbox / ELSEWHERE[3]).write_text(PATIENTS[0])
    (site.root / "map.csv").write_text(f"fhir_patient,patient_id\n{ELSEWHERE[0]},0815\n{ELSEWHERE[1]},10003412\n")
    site.settings_file.write_text(
        site.settings_file.read_text() + 'device = "cpu"\nproxy = "http://sauerbruch:hunter2-proxy@127.0.0.1:9"\n'
        '[fhir]\nenabled = true\nserver = "https://ehr.charite.example/fhir"\nclient_id = "SMART-client-77"\n'
        'patient_map = "map.csv"\npolicy_code = "deadbeef"\npolicy_system = "https://charite.example/p"\n'
        '[inbox]\nenabled = true\nkeys = ["Sauerbruch.pem"]\n'
        '[letter]\nsender = "Prof. Dr. Sauerbruch"\ncontact = "+49 30 450 50"\n'
    )
    (tmp_path / "form.txt").write_text(PATIENTS[0])
    revoked = CliRunner().invoke(app, ["revoke", "--patient-file", str(tmp_path / "form.txt"), "--dir", str(site.root)])
    assert revoked.exit_code == 0, revoked.output
    _fill_logs(site)

    return site


def _fill_logs(site: SiteFolder) -> None:
    """Through the real filter, with loggers of ours that say what they never should, and lines of strangers."""
    log = ProcessLog(site.logs, withhold_unknown, lambda _: None, lambda: NOW)
    stream = StringIO()
    logger = logging.Logger("fedforget.coordination")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)

    for word in (*PATIENTS, *ELSEWHERE):
        logger.warning("cannot read %s of %s, nothing is announced", word, word)
        logger.warning("path=/srv/%s/%s.png id=%s (%s) '%s': no answer", word, word, word, word, word)
        log.output("inbox", f"KeyError: {word}")
    try:
        raise ValueError(PATIENTS[0])
    except ValueError:
        logger.exception("%d waiting", 3)
    for line in stream.getvalue().splitlines():
        log.output("coordination", line)
    log.event("up", "ready", "supernode is up")
    log.close()
    (site.logs / "MUELLER.jsonl").write_text('{"message": "M-4711-MUELLER"}\n')


def _text(file: Path) -> dict[str, str]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def _secrets(root: Path) -> set[str]:
    """Every line of every key, secret and certificate of the folder."""
    lines = set()
    for part in ("keys", "secrets", "federation", "fhir"):
        for path in (root / part).rglob("*"):
            if path.is_file():
                lines |= {line.strip() for line in path.read_text(errors="replace").splitlines() if len(line) >= 16}
    return {line for line in lines if not line.startswith("-----")}


def test_a_bundle_of_a_site_full_of_identifiers_holds_none_of_them_and_no_key(
    folder: SiteFolder, tmp_path: Path
) -> None:
    out = tmp_path / "support.zip"
    result = CliRunner().invoke(app, ["support-bundle", str(out), "--dir", str(folder.root)])
    assert result.exit_code == 0, result.output
    texts = _text(out)
    everything = "\n".join(f"{name}\n{text}" for name, text in texts.items())
    spoken = "\n".join(text for name, text in texts.items() if name.startswith("logs/") or name == "doctor.json")

    ordinary = {"patient", "revocations", "training", "0815"}
    for word in {*PATIENTS, *ELSEWHERE} - ordinary:
        assert word.casefold() not in everything.casefold(), word
        for piece in re.split(r"[\s|/@:.+]+", word):
            assert len(piece) < 5 or piece == "Patient" or piece.casefold() not in spoken.casefold(), piece
    for word in ordinary:
        assert not re.search(rf"(?<!\w){word}(?!\w)", spoken), word
    for secret in _secrets(folder.root):
        assert secret not in everything
    for place in (str(tmp_path), tmp_path.name, "north", "MUELLER", "Sauerbruch"):
        assert place not in everything, place
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_bundle_still_says_what_helps(folder: SiteFolder, tmp_path: Path) -> None:
    out = tmp_path / "support.zip"
    CliRunner().invoke(app, ["support-bundle", str(out), "--dir", str(folder.root)])
    texts = _text(out)
    log = [json.loads(line) for line in texts["logs/coordination.jsonl"].splitlines()]
    settings = json.loads(texts["settings.json"])
    doctor = {row["check"]: row["result"] for row in json.loads(texts["doctor.json"])}

    assert log[0]["message"] == f"cannot read {WITHHELD} of {WITHHELD}, nothing is announced"
    assert log[0]["level"] == "WARNING"
    assert "3 waiting [ValueError at " in log[-1]["message"]
    assert json.loads(texts["logs/up.jsonl"])["message"] == "supernode is up"
    assert settings["fhir"]["port"] == 19095
    assert settings["proxy"] == WITHHELD
    assert settings["bounds"]["max_epochs"] == 20
    assert settings["inbox"]["keys"] == "1 entries"
    assert doctor["site.toml"] == "ok"
    assert json.loads(texts["versions.json"])["torch"] == torch.__version__
    assert json.loads(texts["database.json"]) == {"kind": "SQLite", "schema": "current"}


def test_a_bundle_never_replaces_a_file(folder: SiteFolder, tmp_path: Path) -> None:
    out = tmp_path / "support.zip"
    out.write_text("mine")
    result = CliRunner().invoke(app, ["support-bundle", str(out), "--dir", str(folder.root)])
    assert result.exit_code == 2
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    "word", ["Ümlaut", "1957-03-12", "123456", "a" * 70, "ab:cd:ef", "user@host", "/srv/x", "0x1f", "\u202eabc"]
)
def test_what_our_code_does_not_say_is_withheld(word: str) -> None:
    assert Redaction().text(f"cannot read {word}") == f"cannot read {WITHHELD}"
