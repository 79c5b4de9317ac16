"""`fedforget-site revocations doubtful`: who is shown where, and what an answer does."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.settings import SiteFolder

SECRET = "0008150"


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    root = tmp_path / "north"
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    subsets = {SECRET: "train", "2": "train", "3": "test"}
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))

    return SiteFolder(root)


def run(site: SiteFolder, *arguments: str, stdin: str = "", code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--dir", str(site.root), "--json"], input=stdin)
    assert "8150" not in result.output
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if not code else " ".join(result.stderr.split())


def test_a_doubt_is_listed_without_identities_and_answered(site: SiteFolder) -> None:
    made = run(site, "revoke", stdin="8150\n2\n")
    assert (made["known"], made["unknown"], made["doubtful"]) == (1, 0, 1)
    assert "revocations doubtful" in made["note"]
    listed = next(row for row in run(site, "revocations", "list") if row["receipt"] == made["receipt"])
    assert (listed["state"], listed["known"], listed["doubtful"]) == ("on-hold", 1, 1)
    (row,) = run(site, "revocations", "doubtful")
    assert (row["receipt"], row["set"]) == (made["receipt"], "train")
    number = row["doubt"]
    assert "it is not clear who is meant" in run(site, "revocations", "doubtful", number, code=2)
    both = ("--is", str(row["candidate"]), "--stranger")
    assert "it is not clear who is meant" in run(site, "revocations", "doubtful", number, *both, code=2)
    assert "a name and a reason" in run(site, "revocations", "doubtful", number, "--stranger", code=4)
    assert "no such candidate" in run(site, "revocations", "doubtful", number, "--is", "99", "--reason", "x", code=2)
    meant = ("--is", str(row["candidate"]), "--reason", "same form", "--steward", "lee")
    assert run(site, "revocations", "doubtful", number, *meant)["revoked"] == 1
    assert run(site, "revocations", "doubtful") == []
    shown = run(site, "revocations", "show", made["receipt"])
    assert (shown["state"], shown["states"]) == ("pending", {"pending": 2, "excluded-before-training": 1})
    assert "lee" in {step["by"] for step in shown["steps"]}
    with open_ledger(site) as ledger:
        assert ledger.is_stopped(SECRET)


def test_what_an_older_version_closed_as_unknown_is_heard_when_doubts_are_listed(site: SiteFolder) -> None:
    (site.root / "site.json").write_text(json.dumps({"name": "north", "subsets": {"2": "train"}}))
    run(site, "revoke", "--also-unknown", stdin="8150\n")
    (site.root / "site.json").write_text(json.dumps({"name": "north", "subsets": {"2": "train", SECRET: "train"}}))
    (row,) = run(site, "revocations", "doubtful")
    with open_ledger(site) as ledger:
        assert ledger.is_stopped(SECRET)
    run(site, "revocations", "doubtful", row["doubt"], "--stranger", "--reason", "another")
    with open_ledger(site) as ledger:
        assert not ledger.is_stopped(SECRET)


def test_identities_are_shown_on_a_terminal_or_in_a_private_file_only(site: SiteFolder, tmp_path: Path) -> None:
    run(site, "revoke", stdin="8150\n")
    program = Path(sys.executable).with_name("fedforget-site")
    command = [str(program), "revocations", "doubtful", "--dir", str(site.root)]
    piped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "8150" not in piped.stdout + piped.stderr
    assert "--to FILE" in piped.stdout
    subprocess.run([*command, "--to", str(tmp_path / "names")], check=True, timeout=60, capture_output=True)
    assert f"'{SECRET}'" in (tmp_path / "names").read_text()
    assert "'8150'" in (tmp_path / "names").read_text()
    assert stat.S_IMODE((tmp_path / "names").stat().st_mode) == 0o600
    keyboard, terminal = pty.openpty()
    wide = {**os.environ, "COLUMNS": "250"}
    subprocess.run(command, stdout=terminal, check=True, timeout=60, env=wide)
    os.close(terminal)
    assert SECRET.encode() in os.read(keyboard, 20_000)
    os.close(keyboard)


def test_a_heading_that_looks_like_a_patient_is_not_dropped(site: SiteFolder) -> None:
    (site.root / "site.json").write_text(json.dumps({"name": "north", "subsets": {"MRN": "train"}}))
    assert "looks like, an identifier" in run(site, "revoke", stdin="MRN\n2\n", code=2)
