"""How the doctor judges what it sees."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from common.platform import checks
from common.platform.checks import GIB, Check

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "result"), [(400, "ok"), (30, "ok"), (29, "warn"), (0, "warn"), (-0.01, "fail"), (-400, "fail")]
)
def test_a_certificate_warns_a_month_ahead_and_fails_when_it_has_expired(days: float, result: str) -> None:
    check = checks.validity("certificate", NOW + timedelta(days=days), NOW, "renew")
    assert check.result == result
    assert check.remedy == ("" if result == "ok" else "renew")


@pytest.mark.parametrize(
    ("skew", "result", "detail"),
    [
        (0.4, "ok", "agrees"),
        (-20, "ok", "20 s behind the coordinator's"),
        (-151, "warn", "151 s behind the coordinator's"),
        (3, "warn", "3 s ahead of the coordinator's"),
        (20, "fail", "20 s ahead of the coordinator's, 5 s are allowed"),
        (-600, "fail", "600 s behind the coordinator's, 300 s are allowed"),
    ],
)
def test_a_clock_warns_at_half_of_what_is_allowed_and_is_hardly_ahead(skew: float, result: str, detail: str) -> None:
    check = checks.clock(skew, 300)
    assert (check.result, check.detail) == (result, detail)


@pytest.mark.parametrize(("free", "result"), [(10, "ok"), (9, "warn"), (5, "warn"), (4, "fail")])
def test_space_fails_below_half_of_what_is_advised(free: int, result: str) -> None:
    assert checks.space("disk", free * GIB, 10 * GIB, "free some").result == result


@pytest.mark.parametrize(
    ("taken", "up_runs", "result"),
    [(True, True, "ok"), (False, True, "fail"), (True, False, "fail"), (False, False, "ok")],
)
def test_a_port_is_ours_while_up_runs_and_free_otherwise(taken: bool, up_runs: bool, result: str) -> None:
    assert checks.port("gateway", 8443, taken=taken, up_runs=up_runs).result == result


@pytest.mark.parametrize(
    ("theirs", "result"), [("0.3.1", "ok"), ("0.3.2", "warn"), ("0.4.0", "fail"), ("1.3.1", "fail"), ("", "warn")]
)
def test_versions_may_differ_in_the_last_number_only(theirs: str, result: str) -> None:
    assert checks.versions("version", "0.3.1", theirs).result == result


def test_each_secret_that_is_missing_empty_or_readable_by_others_is_a_row(tmp_path: Path) -> None:
    good, empty, shared = (tmp_path / name for name in ("good", "empty", "shared"))
    for path, content, mode in ((good, "x", 0o600), (empty, "", 0o600), (shared, "x", 0o604)):
        path.write_text(content)
        path.chmod(mode)

    found = checks.secrets([good, empty, shared, tmp_path / "missing"])
    assert [(check.name.rpartition("/")[2], check.result) for check in found] == [
        ("empty", "fail"),
        ("shared", "fail"),
        ("missing", "fail"),
    ]
    assert found[1].remedy == f"chmod 600 {shared}"
    assert [check.result for check in checks.secrets([good])] == ["ok"]


def test_only_a_failure_fails() -> None:
    assert not checks.failed([Check("a", "ok", ""), Check("b", "warn", "")])
    assert checks.failed([Check("a", "ok", ""), Check("b", "fail", "")])


def test_the_table_shows_brackets_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(checks.as_table([Check("port", "fail", "taken", "see [ports] in [red]")]))
    assert "see [ports] in [red]" in out.getvalue()
