import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.commands.bundle import app
from client.membership.approval import approve, approved_digests, withdraw
from client.settings import SiteFolder
from common.errors import ConfigError, InputError
from common.protocol.bundle import installed_bundle

A = "aa" * 32
B = "bb" * 32
C = "cc" * 32
HEAD = '# North hospital\nname = "north"  # agreed\ngateway = "g:1"\ncoordination = "g:2"\nca_fingerprint = "f"\n'
TAIL = "\n[bounds]\nmax_epochs = 3  # less than usual\n"
ONE_LINE = f'approved_bundles = ["{A}", "{B}"]\n'
COMMENTED = f'approved_bundles = [\n    "{A}",  # pilot app, Dr. B., 2026-03\n    # kept for the audit\n    "{B}"\n]\n'
FORMS = [HEAD + ONE_LINE + TAIL, HEAD + COMMENTED + TAIL, HEAD + ONE_LINE, HEAD + COMMENTED.replace(A, A.upper())]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return SiteFolder(tmp_path).settings_file


def listed(file: Path) -> set[str]:
    return {entry.lower() for entry in tomllib.loads(file.read_text()).get("approved_bundles", [])}


@pytest.mark.parametrize("text", [HEAD + TAIL, HEAD, HEAD + "approved_bundles = []\n" + TAIL])
def test_the_first_approval_is_written_and_all_else_stays(file: Path, text: str) -> None:
    file.write_text(text)
    assert approve(file, C)
    assert listed(file) == {C}
    kept = [line for line in text.splitlines() if "approved" not in line]
    assert [line for line in file.read_text().splitlines() if line in kept] == kept
    assert SiteFolder(file.parent).settings().approved_bundles == (C,)


@pytest.mark.parametrize("text", FORMS)
def test_one_more_approval_and_its_withdrawal_leave_comments_and_the_others(file: Path, text: str) -> None:
    file.write_text(text)
    assert approve(file, C.upper())
    assert listed(file) == {A, B, C}
    assert withdraw(file, C)
    assert listed(file) == {A, B}
    assert withdraw(file, B)
    assert listed(file) == {A}
    for comment in [part for part in text.splitlines() if part.lstrip().startswith("#")]:
        assert comment in file.read_text()


def test_the_comment_of_a_withdrawn_bundle_goes_with_it(file: Path) -> None:
    file.write_text(HEAD + COMMENTED)
    withdraw(file, A)
    assert "pilot app" not in file.read_text()
    assert "kept for the audit" in file.read_text()


def test_doing_it_twice_changes_nothing(file: Path) -> None:
    file.write_text(HEAD + ONE_LINE)
    assert not approve(file, A)
    assert not withdraw(file, C)
    assert file.read_text() == HEAD + ONE_LINE


def test_a_form_that_cannot_be_edited_safely_is_left_alone(file: Path) -> None:
    text = HEAD + f'"approved_bundles" = ["{A}"]\n'
    file.write_text(text)
    with pytest.raises(ConfigError, match="by hand"):
        approve(file, C)
    assert file.read_text() == text


def test_the_installed_bundle_is_approved_without_an_entry_and_cannot_be_withdrawn(file: Path) -> None:
    file.write_text(HEAD)
    own = installed_bundle().digest
    assert approved_digests(SiteFolder(file.parent).settings()) == {own}
    with pytest.raises(InputError, match="own bundle"):
        withdraw(file, own)


def test_an_entry_that_is_no_digest_is_an_error_and_not_an_approval(file: Path) -> None:
    file.write_text(HEAD + 'approved_bundles = ["*"]\n')
    with pytest.raises(InputError, match="not a SHA-256"):
        approved_digests(SiteFolder(file.parent).settings())


def test_the_commands_change_the_file_and_tell_programs(file: Path) -> None:
    file.write_text(HEAD)
    run = CliRunner().invoke
    done = run(app, ["approve", A, "--dir", str(file.parent), "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"bundle": A, "changed": True})
    done = run(app, ["show", "--dir", str(file.parent), "--json"])
    assert json.loads(done.stdout) == {"installed": installed_bundle().digest, "approved": [A]}
    assert "withdrawn" in run(app, ["withdraw", A, "--dir", str(file.parent)]).stdout
    assert run(app, ["approve", "all", "--dir", str(file.parent)]).exit_code == 2
