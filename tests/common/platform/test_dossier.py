"""What the dossiers of both sides have in common."""

from __future__ import annotations

from pathlib import Path

import dossiers
import pytest

from common.errors import OutputError
from common.platform.dossier.archive import packed, refuse_existing, write_new
from common.platform.dossier.attacks import NOT_RUN, Figure, attacks_of
from common.platform.dossier.duties import DUTIES, duties_of
from common.platform.dossier.page import Section, as_page


def test_the_page_about_compliance_names_every_duty_and_each_of_its_files() -> None:
    rows = [line for line in dossiers.PAGE.splitlines() if line.startswith("|")]
    for duty in DUTIES:
        (row,) = (line for line in rows if line.startswith(f"| {duty.law}:"))
        _, _, coordinator, site, _ = row.split("|")
        assert all(f"`{name}`" in coordinator for name in duty.coordinator)
        assert all(f"`{name}`" in site for name in duty.site)


def test_the_order_of_files_changes_no_byte_of_the_archive() -> None:
    assert packed({"a": b"1", "b": b"2"}) == packed({"b": b"2", "a": b"1"})


def test_an_absent_file_has_its_reason() -> None:
    duty = next(one for one in duties_of("site", {"record.json"}, {}) if one["law"] == "GDPR Art. 7(3)")
    assert duty["files"] == ["record.json"]
    assert duty["absent"].keys() == {"leaf-revocation.json", "leaf-tombstone.json"}  # type: ignore[attr-defined]


def test_an_attack_without_a_figure_is_not_run() -> None:
    name = "membership AUC, image, forgotten"
    found = attacks_of([Figure(name, missing="nobody was forgotten"), Figure("test AUC of a at b", "0.9", "0.8", "1")])
    assert found["run"] == []
    assert found["not_run"][0] == {"attack": name, "why": "nobody was forgotten"}  # type: ignore[index]
    assert len(found["not_run"]) == 1 + len(NOT_RUN)  # type: ignore[arg-type]


def test_what_another_party_wrote_is_text_in_the_page() -> None:
    hostile = '<img src="http://x/">\x1b[2J'
    page = as_page("t", [hostile], [Section(hostile, (hostile,), (hostile,), ((hostile,),))])
    assert "<img" not in page
    assert "\x1b" not in page


def test_no_file_is_replaced_and_nothing_is_half_written(tmp_path: Path) -> None:
    file = tmp_path / "dossier.zip"
    assert write_new(file, packed({"a": b"1"})) == ["SHA256SUMS", "a"]
    with pytest.raises(OutputError):
        refuse_existing(file)
    with pytest.raises(OutputError):
        write_new(file / "below", packed({}))
    assert [path.name for path in tmp_path.iterdir()] == ["dossier.zip"]
